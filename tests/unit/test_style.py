"""The house style that a program can check: linters, types, sizes, and who may import whom (docs/architecture.md)."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.requirements import CHECKOUT

# What may not be imported, by the package that may not; a longer name is the exception to a shorter one.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "engine.runtime": ("engine.images", "engine.storage", "engine.cli", "engine.containers", "engine.system"),
    "engine.storage": ("engine.runtime", "engine.cli", "engine.images", "engine.containers", "engine.system"),
    "engine.images": ("engine.runtime", "engine.cli", "engine.storage", "engine.containers", "engine.system"),
    "engine.oci": ("engine.images", "engine.storage", "engine.runtime", "engine.cli"),
}
# The modules that carry images into the store or out of it, or show one whole: they alone join the two.
CARRIERS = ("pull", "push", "load", "save", "import_root", "archive", "describe")
ALLOWED = {("engine.storage", "engine.images.reference")} | {(f"engine.images.{n}", "engine.storage") for n in CARRIERS}
LINES_OF_A_MODULE = 600
LINES_OF_A_FUNCTION = 60
GENERATED = {"engine/cli/table.py"}  # data, a line for each option that there is
LINEAR_SEQUENCE = {"engine/runtime/process/init.py"}  # reads as the ordered checklist of what makes a container
PRINTERS = ("engine/cli/", "engine/demo/")


def _modules() -> list[str]:
    """Every module of the engine, as a path from the checkout."""
    found = []
    for path, directories, files in os.walk(os.path.join(CHECKOUT, "engine")):
        directories[:] = [name for name in directories if name != "__pycache__"]
        found += [os.path.relpath(os.path.join(path, name), CHECKOUT) for name in files if name.endswith(".py")]
    return sorted(found)


MODULES = _modules()


def _source(path: str) -> str:
    with open(os.path.join(CHECKOUT, path), encoding="utf-8") as file:
        return file.read()


@functools.cache
def _tree(path: str) -> ast.Module:
    return ast.parse(_source(path))


def _name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports(path: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever in the module it stands."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            # `from engine.images import pull` imports the module engine.images.pull.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.requires("module:ruff")
def test_ruff() -> None:
    _run("ruff", "check", "engine", "tests", "scripts")


@pytest.mark.requires("module:ruff")
def test_format() -> None:
    _run("ruff", "format", "--check", "engine", "tests", "scripts")


@pytest.mark.requires("module:mypy")
@pytest.mark.timeout(300)
def test_types() -> None:
    """pyproject.toml says strict, and what of."""
    _run("mypy")


def test_a_package_holds_a_docstring_only() -> None:
    for path in MODULES:
        if path.endswith("/__init__.py"):
            body = _tree(path).body
            assert len(body) == 1 and ast.get_docstring(_tree(path)), path


def test_every_module_says_what_it_is() -> None:
    assert [path for path in MODULES if not ast.get_docstring(_tree(path))] == []


def test_modules_are_short() -> None:
    lengths = {path: len(_source(path).splitlines()) for path in MODULES if path not in GENERATED}
    assert {path: lines for path, lines in lengths.items() if lines > LINES_OF_A_MODULE} == {}


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Without the signature, which is a table of its own where it declares a command's options."""
    return (function.end_lineno or 0) - function.body[0].lineno + 1


def test_functions_fit_one_screen() -> None:
    long = [
        f"{path}:{node.lineno} {node.name}: {_body_lines(node)} lines"
        for path in MODULES
        if path not in LINEAR_SEQUENCE
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _body_lines(node) > LINES_OF_A_FUNCTION
    ]
    assert long == []


def test_nothing_flows_back() -> None:
    """Runtime knows nothing of images or storage, storage nothing of runtime; images of the store where they cross."""
    wrong = []
    for path in MODULES:
        name = _name(path)
        for package, forbidden in FORBIDDEN.items():
            if not _within(name, package):
                continue
            for line, imported in _imports(path):
                hit = any(_within(imported, other) for other in forbidden)
                excused = any(_within(name, who) and _within(imported, what) for who, what in ALLOWED)
                if hit and not excused:
                    wrong.append(f"{path}:{line} imports {imported}")
    assert wrong == []


def test_only_the_command_line_prints_and_exits() -> None:
    wrong = []
    for path in MODULES:
        if path.startswith(PRINTERS) or path == "engine/__main__.py":
            continue
        for node in ast.walk(_tree(path)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "sys.exit", "exit", "sys.stdout.write", "sys.stderr.write"):
                wrong.append(f"{path}:{node.lineno} calls {called}")  # type: ignore[attr-defined]
    assert wrong == []


def test_system_calls_are_in_one_module() -> None:
    """ctypes is at home in linux.py."""
    users = {path for path in MODULES for _, name in _imports(path) if _within(name, "ctypes")}
    assert users <= {"engine/linux.py"}
