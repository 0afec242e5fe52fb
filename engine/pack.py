"""The bytecode of many modules in one file, from which a command takes what it needs at once.

importlib looks for each module along sys.path, reads its file and makes it a loader: some 0.1 ms, and a command has fifty modules
to itself. Here a module is taken with all that it imports at its top, whose order is known, from one file opened once
(docs/decisions/0023-bytecode-in-one-file.md).

    import engine.x ──> Pack.find_spec ── in the pack, and the source unchanged? ──> exec, its imports first
                                      └─ no: noted, importlib finds it as ever; `renew` (repack.py) packs it for the next time

    file: magic numbers │ length of the index │ index, marshalled │ code objects, marshalled one by one

It is a cache as `__pycache__` is, lies there, and is believed under the same conditions: size and modification time of the source.
Its name is that of the bytecode of modules.py, which is empty and never imported: so pip removes it together with that.
"""

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    # package or not, the source's mtime in ns and size, the code's place and length, the modules that it imports at its top
    Entry = tuple[bool, int, int, int, int, tuple[str, ...]]

_BOOTSTRAP: "Any" = sys.modules["_frozen_importlib"]
# what the file begins with: the bytecode's version, and that of this format
MAGIC: bytes = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER + b"\2"
_HEAD = len(MAGIC) + 8

_installed: "Pack | None" = None


class Pack:
    """A finder and loader (PEP 451) of the modules of the package `engine` in the directory `root`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.path = f"{root}/engine/__pycache__/modules.{sys.implementation.cache_tag}.pyc"
        self.missed: set[str] = set()
        self.index: dict[str, Entry] = {}
        self._file = (0, 0)  # what the index is of
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            head = os.pread(fd, _HEAD, 0)
            if head[: len(MAGIC)] == MAGIC:
                self._begin = _HEAD + int.from_bytes(head[len(MAGIC) :], "little")
                self.index = marshal.loads(os.pread(fd, self._begin - _HEAD, _HEAD))
                self._file = _identity(fd)
        except (OSError, ValueError, EOFError, TypeError):  # cut off by a crash
            self.index = {}
        finally:
            os.close(fd)

    def source(self, name: str, package: bool) -> str:
        return f"{self.root}/{name.replace('.', '/')}{'/__init__' if package else ''}.py"

    def is_current(self, name: str) -> bool:
        """Whether the pack has the module as its source is now."""
        entry = self.index.get(name)
        if entry is None:
            return False
        try:
            info = os.stat(self.source(name, entry[0]))
        except OSError:
            return False
        return (info.st_mtime_ns, info.st_size) == entry[1:3]

    def read(self, entry: "Entry") -> bytes:
        """The code of an entry, marshalled; nothing where another process has replaced the file meanwhile."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.pread(fd, entry[4], self._begin + entry[3]) if _identity(fd) == self._file else b""
        finally:
            os.close(fd)

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """PEP 451. None for what importlib has to find."""
        if not name.startswith("engine."):
            return None
        if not self.is_current(name):
            self.missed.add(name)
            return None
        return self._spec(name)

    def _spec(self, name: str) -> "Any":
        package = self.index[name][0]
        origin = self.source(name, package)
        spec = _BOOTSTRAP.ModuleSpec(name, self, origin=origin, is_package=package)
        if package:
            spec.submodule_search_locations.append(os.path.dirname(origin))
        spec.has_location = True
        return spec

    def create_module(self, spec: "Any") -> None:
        return None

    def exec_module(self, module: "ModuleType") -> None:
        """What it imports at its top first, then itself."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._execute(module, fd if _identity(fd) == self._file else -1)
        finally:
            os.close(fd)

    def _execute(self, module: "ModuleType", fd: int) -> None:
        """By importlib where the file is another by now (-1), or spoilt: as after a crash, which left its length only."""
        _, _, _, offset, length, imported = self.index[module.__name__]
        for name in imported:
            if name not in sys.modules and fd >= 0:
                self._load(name, fd)
        try:
            code = marshal.loads(os.pread(fd, length, self._begin + offset))
        except (OSError, ValueError, EOFError, TypeError):
            self.missed.add(module.__name__)
            external: Any = sys.modules["_frozen_importlib_external"]
            code = external.SourceFileLoader(module.__name__, module.__file__).get_code(module.__name__)
        exec(code, module.__dict__)

    def _load(self, name: str, fd: int) -> None:
        """importlib._bootstrap._load, without looking. One that is not current is left to the import statement."""
        parent, _, last = name.rpartition(".")
        if parent not in sys.modules:
            self._load(parent, fd)
        if parent not in sys.modules or not self.is_current(name):
            return
        with _BOOTSTRAP._ModuleLockManager(name):
            if name in sys.modules:
                return
            spec = self._spec(name)
            spec._initializing = True
            module = sys.modules[name] = _module(spec)
            try:
                self._execute(module, fd)
            except BaseException:
                del sys.modules[name]
                raise
            finally:
                spec._initializing = False
        setattr(sys.modules[parent], last, module)


def _identity(fd: int) -> tuple[int, int]:
    """An inode's number alone may be another file's by now."""
    info = os.fstat(fd)
    return info.st_ino, info.st_ctime_ns


def _module(spec: "Any") -> "ModuleType":
    """importlib._bootstrap.module_from_spec, but for `__cached__`: there is no such file."""
    module = type(sys)(spec.name)
    module.__spec__, module.__loader__, module.__package__ = spec, spec.loader, spec.parent
    module.__file__ = spec.origin
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    return module


def install(root: str) -> None:
    """From here on, `engine` of the directory `root` is imported from its pack."""
    global _installed
    _installed = Pack(root)
    sys.meta_path.insert(0, _installed)


def renew() -> None:
    """At the end of a command: packs what it had to import the long way, where that can be written."""
    if not _installed or not _installed.missed or sys.dont_write_bytecode:
        return
    if os.access(os.path.dirname(_installed.path), os.W_OK):
        from engine import repack

        repack.renew(_installed)
