"""Where an archive goes: stdout unless that is a terminal, or a file that appears when it is whole."""

from __future__ import annotations

import os
import stat
import sys

from engine.errors import StoreError, UsageError
from engine.files import remove_file, store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Output:
    """A context manager that gives the descriptor to write to.

    A file is written beside its name (mode 0600, as Docker's) and renamed when the block ends well; otherwise, also at
    Ctrl-C, nothing of it stays, and what had the name before is there still. A device or a FIFO is written as it is.
    """

    def __init__(self, path: str | None) -> None:
        """UsageError for a terminal, in Docker's words."""
        if path is None and os.isatty(sys.stdout.fileno()):
            raise UsageError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        self._path = os.path.realpath(path) if path is not None else None
        self._temporary = ""

    def __enter__(self) -> int:
        if self._path is None:
            sys.stdout.flush()
            self._fd = os.dup(sys.stdout.fileno())
            return self._fd
        directory, name = os.path.split(self._path)
        if os.path.isdir(self._path) or not os.path.isdir(directory):
            what = "it is a directory" if os.path.isdir(self._path) else f"directory {directory!r} does not exist"
            raise UsageError(f"invalid output path {self._path!r}: {what}")
        flags = os.O_WRONLY | os.O_CLOEXEC
        try:
            if os.path.exists(self._path) and not stat.S_ISREG(os.stat(self._path).st_mode):
                self._fd = os.open(self._path, flags)
            else:
                self._temporary = f"{directory}/.{name[:200]}.{os.urandom(6).hex()}.tmp"
                self._fd = os.open(self._temporary, flags | os.O_CREAT | os.O_EXCL, 0o600)
            return self._fd
        except OSError as e:
            raise store_error(e, "write", self._path) from e
        except KeyboardInterrupt:
            # it may have come when the file was there, and before anybody else could remove it
            remove_file(self._temporary)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.close(self._fd)
            if self._temporary and kind is None:
                os.rename(self._temporary, self._path or "")
        finally:
            if self._temporary:
                remove_file(self._temporary)
        if isinstance(value, OSError) and not isinstance(value, BrokenPipeError) and value.filename is None:
            # of write(2), whose path only this place knows
            raise StoreError(f"cannot write {self._path or 'stdout'}: {os.strerror(value.errno or 0)}") from value
