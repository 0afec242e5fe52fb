"""Reading, writing and removing in a cgroup file system, with errors that say which file and which value."""

from __future__ import annotations

import errno
import os
import time

from engine.errors import RuntimeFault, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

NO_LIMIT = (1 << 64) - 1  # how runc's statistics say "max"


def read(path: str) -> str | None:
    """The file's text without the line feed at its end, or None where this kernel does not have the file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise _fault(e, f"cannot read {path}", path) from e
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode(errors="replace").rstrip("\n")
    except OSError as e:
        # ENODEV: the cgroup was removed. EOPNOTSUPP: the file exists, but its controller or scheduler is off.
        if e.errno in (errno.ENODEV, errno.EOPNOTSUPP):
            return None
        raise _fault(e, f"cannot read {path}", path) from e
    finally:
        os.close(fd)


def write(path: str, value: str) -> None:
    """One write(2): the kernel takes a cgroup file's value as a whole. Never creates a file.

    Raises Unsupported where the cgroup exists without that file, RuntimeFault for everything else.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as e:
        if e.errno == errno.ENOENT and os.path.isdir(os.path.dirname(path)):
            raise Unsupported(f"this kernel has no {os.path.basename(path)}: cannot set it to {value!r}") from e
        raise _fault(e, f"cannot write {value!r} to {path}", path) from e
    try:
        os.write(fd, value.encode())
    except OSError as e:
        raise _fault(e, f"cannot write {value!r} to {path}", path, _in_use(path, e)) from e
    finally:
        os.close(fd)


def number(text: str | None) -> int | None:
    """The number in a file; NO_LIMIT for "max", None where there is none, or no file."""
    text = (text or "").strip()
    return int(text) if text.lstrip("-").isdecimal() else NO_LIMIT if text == "max" else None


def table(text: str | None) -> dict[str, int]:
    """A "flat keyed" file: one `key value` a line. {} where there is no file."""
    pairs = (line.split() for line in (text or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def pressure(text: str | None) -> dict[str, Any]:
    """{"psi": …} of lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; {} where the kernel does not tell (PSI, Linux 4.20)."""
    found = {}
    for kind, *words in (line.split() for line in (text or "").splitlines()):
        pairs = [word.partition("=")[::2] for word in words]
        found[kind] = {name: int(value) if name == "total" else float(value) for name, value in pairs}
    return {"psi": found} if found else {}


def _in_use(path: str, e: OSError) -> str:
    """A memory limit below what is in use is refused with EBUSY when nothing more can be reclaimed: say how much that
    is.
    """
    if e.errno == errno.EBUSY and path.endswith(".limit_in_bytes"):
        usage = read(path.replace(".limit_in_bytes", ".usage_in_bytes"))
        return f" ({usage} bytes are in use)"
    return ""


def _fault(e: OSError, what: str, path: str, detail: str = "") -> RuntimeFault:
    return RuntimeFault("cgroup", f"{what}: {os.strerror(e.errno or 0)}{detail}", e.errno or 0, path)


def tree(directory: str) -> Iterator[str]:
    """The directory and all below it, the deepest first."""
    try:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in below:
        yield from tree(path)
    yield directory


def tree_pids(directory: str) -> set[int]:
    """The processes of a cgroup and of all below it. 0 (a process outside this PID namespace) is left out."""
    pids: set[int] = set()
    for below in tree(directory):
        text = read(f"{below}/cgroup.procs")
        if text is None:
            text = read(
                f"{below}/cgroup.threads"
            )  # of a threaded cgroup of v2 the processes cannot be read (EOPNOTSUPP)
        pids.update(int(line) for line in (text or "").split() if line != "0")
    return pids


def rmdir(path: str) -> None:
    """rmdir(2) of a cgroup, waiting for dying processes up to 10 s. No error where it is gone."""
    deadline = time.monotonic() + 10
    pause = 0.0005
    while True:
        try:
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError as e:
            if e.errno != errno.EBUSY or time.monotonic() > deadline:
                who = ", ".join(str(pid) for pid in sorted(tree_pids(path)))
                raise _fault(e, f"cannot remove {path}", path, f" (processes in it: {who})" if who else "") from e
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
