"""Writes the pack (pack.py): what is current in it, and what a command had to import the long way."""

from __future__ import annotations
import __future__

import ast
import marshal
import os

from engine import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


_READ = ("engine.cli.app", "engine.cli.declarations")  # whose docstrings are what `--help` says


def renew(old: pack.Pack) -> None:
    """Replaces the file as one step. Where two do so at once the last one stays: what it lacks is packed the next time."""
    codes: dict[str, bytes] = {}
    index: dict[str, pack.Entry] = {}
    offset = 0
    for name, (entry, code) in sorted({**dict(_kept(old)), **dict(_compiled(old))}.items()):
        index[name] = (*entry[:3], offset, len(code), entry[5])
        codes[name] = code
        offset += len(code)
    _write(old.path, index, b"".join(codes.values()))


def _kept(old: pack.Pack) -> Iterator[tuple[str, tuple[pack.Entry, bytes]]]:
    for name, entry in old.index.items():
        if old.is_current(name) and name not in old.missed:
            code = old.read(entry)
            if code:
                yield name, (entry, code)


def _compiled(old: pack.Pack) -> Iterator[tuple[str, tuple[pack.Entry, bytes]]]:
    for name in old.missed:
        package = os.path.isdir(old.source(name, True).removesuffix("/__init__.py"))
        path = old.source(name, package)
        try:
            before = os.stat(path)
            with open(path, "rb") as file:
                text = file.read()
        except OSError:
            continue  # there is no such module
        tree = ast.parse(text)
        imported = tuple(dict.fromkeys(_imported(tree, old)))
        yield (
            name,
            ((package, before.st_mtime_ns, before.st_size, 0, 0, imported), marshal.dumps(_code(tree, path, name))),
        )


def _code(tree: ast.Module, path: str, name: str) -> Any:
    """Without assertions, and without docstrings that nobody reads: a fifth less. Without importing __future__, whose only use is
    the flag."""
    tree.body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    level = 1 if name.startswith(_READ) else 2
    return compile(tree, path, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True, optimize=level)


def _imported(tree: ast.Module, old: pack.Pack) -> Iterator[str]:
    """The modules of ours that are imported at the module's top, in their order; not those below an `if` or in a function."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name for name in below if _is_module(name, old)] or [node.module]
        else:
            continue
        yield from (name for name in names if name.startswith("engine."))


def _is_module(name: str, old: pack.Pack) -> bool:
    return any(os.path.exists(old.source(name, package)) for package in (False, True))


def _write(path: str, index: dict[str, pack.Entry], codes: bytes) -> None:
    temporary = f"{path}.{os.getpid()}"
    marshalled = marshal.dumps(index)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError:
        return  # not ours to write
    try:
        with open(fd, "wb") as file:
            file.write(pack.MAGIC + len(marshalled).to_bytes(8, "little") + marshalled + codes)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
