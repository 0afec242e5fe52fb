"""The bytecode of many modules in one file (engine/pack.py): what is imported from it is what importlib would have found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from tests.support.requirements import CHECKOUT

_HEAD = """
import sys
sys.path.append({root!r})
from engine import pack
pack.install({root!r})
def kind(name):
    return type(sys.modules[name].__loader__).__name__
"""
_MODULES = {
    "a": '"""Docstring."""\nfrom __future__ import annotations\nimport os\nfrom engine import b\nfrom engine.sub import c\n'
    "def later() -> Missing:\n    from engine.sub import d\n    return d\nimported.append('a')\n",
    "b": "assert True\nimported.append('b')\nVALUE = 1\n",
    "sub/__init__": "",
    "sub/c": "from engine.b import VALUE\nimported.append('c')\n",
    "sub/d": "imported.append('d')\n",
    "broken": "from engine import b\nraise LookupError('broken')\n",
    "slow": "import time\ntime.sleep(0.2)\nDONE = True\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    engine = tmp_path / "engine"
    (engine / "sub").mkdir(parents=True)
    (engine / "__pycache__").mkdir()
    (engine / "__init__.py").write_text("import builtins\nbuiltins.imported = []\n")
    for name in ("pack", "repack"):
        shutil.copy(f"{CHECKOUT}/engine/{name}.py", engine / f"{name}.py")
    for name, text in _MODULES.items():
        (engine / f"{name}.py").write_text(text)
    return tmp_path


@pytest.fixture
def run(tree: Path) -> Callable[..., str]:
    def run(program: str, *options: str) -> str:
        command = [sys.executable, "-I", "-S", *options, "-c", _HEAD.format(root=str(tree)) + program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def packed(tree: Path) -> Path:
    return next((tree / "engine/__pycache__").glob("modules.*"))


USE = (
    "from engine import a; print(*imported, kind('engine.a'), kind('engine.sub.c'), a.b.VALUE); a.later(); pack.renew()"
)


def test_the_second_time_from_the_pack(run: Callable[..., str]) -> None:
    assert run(USE) == "b c a SourceFileLoader SourceFileLoader 1"
    assert run(USE) == "b c a Pack Pack 1"
    # what is imported in a function is packed, and not imported before
    assert run("from engine import a; print(*imported); a.later(); print(imported[-1], kind('engine.sub.d'))") == (
        "b c a\nd Pack"
    )


def test_modules_are_whole(run: Callable[..., str], tree: Path) -> None:
    run(USE)
    shown = run(
        "import engine.a, engine.sub.c; m = engine.sub.c\n"
        "print(m.__name__, m.__package__, m.__file__, m.__spec__.origin == m.__file__, m.__spec__._initializing)\n"
        "print(engine.sub.c is sys.modules['engine.sub.c'], engine.sub.__path__, engine.a.__doc__)\n"
        "print(engine.a.later.__annotations__, engine.a.later.__code__.co_filename)"
    )
    assert shown.splitlines() == [
        f"engine.sub.c engine.sub {tree}/engine/sub/c.py True False",
        f"True ['{tree}/engine/sub'] None",
        f"{{'return': 'Missing'}} {tree}/engine/a.py",
    ]


@pytest.mark.parametrize("name", ["a", "b", "sub/c"])
def test_a_changed_source_counts(run: Callable[..., str], tree: Path, name: str) -> None:
    run(USE)
    path = tree / f"engine/{name}.py"
    path.write_text(path.read_text() + f"imported.append('new {name}')\n")
    dotted = f"engine.{name.replace('/', '.')}"
    program = f"from engine import a; print(*imported, kind({dotted!r})); pack.renew()"
    shown = run(program)
    assert f"new {name}" in shown and shown.endswith("SourceFileLoader")
    shown = run(program)
    assert f"new {name}" in shown and shown.endswith("Pack")


def test_a_removed_module_is_gone(run: Callable[..., str], tree: Path) -> None:
    run(USE)
    (tree / "engine/sub/d.py").unlink()
    program = "from engine import a\ntry: a.later()\nexcept ImportError as e: print(e)\npack.renew()"
    assert "cannot import name 'd'" in run(program)
    assert "cannot import name 'd'" in run(program)


@pytest.mark.parametrize("spoil", [
    lambda data: b"", lambda data: data[:5], lambda data: data[:40], lambda data: data[:-30], lambda data: bytes(len(data)),
    lambda data: b"\0\0\0\0" + data[4:], lambda data: data[:13] + b"\xff" * (len(data) - 13),
])  # fmt: skip
def test_a_spoilt_file_is_none(run: Callable[..., str], tree: Path, spoil: Callable[[bytes], bytes]) -> None:
    """Cut off by a crash, of another version, overwritten."""
    run(USE)
    path = packed(tree)
    path.write_bytes(spoil(path.read_bytes()))
    assert run(USE).startswith("b c a")
    assert run(USE) == "b c a Pack Pack 1"


def test_a_file_that_is_replaced_meanwhile(run: Callable[..., str]) -> None:
    """The index that was read is of another file then."""
    run(USE)
    program = (
        "other = pack.Pack(pack._installed.root); other.missed.update(('engine.slow', 'engine.a'))\n"
        "from engine import repack\n"
        "for _ in range(3): repack.renew(other)\n"
        "from engine import a; print(*imported, kind('engine.a')); from engine import slow"
    )
    assert run(program) == "b c a Pack"
    run(USE)
    assert run(USE) == "b c a Pack Pack 1"


def test_a_module_that_fails(run: Callable[..., str], tree: Path) -> None:
    (tree / "engine/after.py").write_text("from engine import broken\n")
    program = (
        "for name in ('broken', 'broken', 'after'):\n"
        "    try: __import__('engine.' + name)\n"
        "    except LookupError as e: print(e, 'engine.' + name in sys.modules, 'engine.b' in sys.modules)\n"
        "pack.renew()"
    )
    told = ["broken False True"] * 3
    assert run(program).splitlines() == told
    assert run(program).splitlines() == told


def test_threads_wait_for_each_other(run: Callable[..., str], tree: Path) -> None:
    (tree / "engine/first.py").write_text("from engine import slow\nDONE = slow.DONE\n")
    program = (
        "import threading\n"
        "def work(name): print(__import__('engine.' + name, fromlist=['DONE']).DONE)\n"
        "threads = [threading.Thread(target=work, args=(name,)) for name in ('first', 'slow', 'first', 'slow')]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
        "pack.renew()"
    )
    for _ in range(3):
        assert run(program).split() == ["True"] * 4


def test_nothing_is_written_where_it_may_not(run: Callable[..., str], tree: Path) -> None:
    run(USE, "-B")
    shutil.rmtree(tree / "engine/__pycache__")
    run(USE, "-B")
    assert not (tree / "engine/__pycache__").exists()
    (tree / "engine/__pycache__").write_text("not a directory")
    assert run(USE).startswith("b c a")


@pytest.mark.requires("root", "linux")
def test_nothing_is_compiled_that_cannot_be_written(run: Callable[..., str]) -> None:
    """Another user's installation: each command would take 0.2 s longer."""
    program = "import os; from engine import a; os.setuid(65534); pack.renew(); print('engine.repack' in sys.modules)"
    assert run(program) == "False"


def test_nothing_is_left_beside_it(run: Callable[..., str], tree: Path) -> None:
    run(USE)
    run(USE)
    assert [name for name in os.listdir(tree / "engine/__pycache__") if not name.endswith(".pyc")] == []


@pytest.mark.parametrize(
    "line", ["--help", "run --help", "network create --help", "run", "nosuch", "ps --format x --bogus"]
)
def test_the_command_line_says_the_same_from_it(tmp_path: Path, line: str) -> None:
    """The help is docstrings."""
    shutil.copytree(f"{CHECKOUT}/engine", tmp_path / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    library = tmp_path / f".venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    library.mkdir(parents=True)
    (library / "site-packages").symlink_to(os.path.dirname(os.path.dirname(typer.__file__)))
    command = [sys.executable, "-I", "-S", f"{tmp_path}/engine/__main__.py", *line.split()]
    first, second, third = (subprocess.run(command, capture_output=True, timeout=60) for _ in range(3))
    assert packed(tmp_path).exists()
    assert first.stdout + first.stderr
    for again in (second, third):
        assert (again.returncode, again.stdout, again.stderr) == (first.returncode, first.stdout, first.stderr)
