"""Who a container's process is: an image's `User`, or `-u`, resolved in the container's own passwd and group files.

Those files come from the image, so they are hostile input: they are read fd-relative with every symlink kept inside the
root, only where they are regular files (CVE-2024-9676: a FIFO would hang, a device would be opened), and only up to a
limit; an id in them is held to the same range as one on the command line (CVE-2024-40635: 2^32 is root to the kernel).
Semantics and messages are Docker's (github.com/moby/sys, user/user.go). https://man7.org/linux/man-pages/man5/passwd.5.html
"""

from __future__ import annotations

import errno
import os
import stat

from engine import linux
from engine.errors import RuntimeFault, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_ID = (1 << 31) - 1
MAX_FILE = 4 << 20


class User:
    """The identity to start a process with. `additional_gids` holds `gid` first (CVE-2022-36109), each gid once.

    `name` is empty and `home` is "/" where passwd has no entry for the uid.
    """

    __slots__ = ("additional_gids", "gid", "home", "name", "uid")

    def __init__(self, uid: int, gid: int, additional_gids: list[int], home: str = "/", name: str = "") -> None:
        self.uid = uid
        self.gid = gid
        self.additional_gids = additional_gids
        self.home = home
        self.name = name

    def __repr__(self) -> str:
        return f"User({self.uid}, {self.gid}, {self.additional_gids}, {self.home!r}, {self.name!r})"


def read_root_file(root_fd: int, path: str, limit: int = MAX_FILE) -> bytes:
    """The content of a small regular file inside the root at `root_fd`; empty where there is none.

    Every symlink is resolved as if `root_fd` were `/` (openat2(2)). Raises RuntimeFault where it is not a regular file
    or larger than `limit` bytes. It is looked at through O_PATH before it is opened: opening a device node acts on it.
    """
    try:
        seen = linux.openat2(root_fd, path, linux.O_PATH, resolve=linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR):
            return b""
        raise RuntimeFault("user", f"cannot open the image's {path}: {e.strerror}", e.errno or 0, path) from e
    try:
        if not stat.S_ISREG(os.fstat(seen).st_mode):
            raise RuntimeFault("user", f"the image's {path} is not a regular file", path=path)
        fd = os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(seen)
    with open(fd, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise RuntimeFault("user", f"the image's {path} is larger than {limit} bytes", path=path)
    return data


def home_of(uid: int, passwd: bytes) -> str:
    """The directory of the first entry with this uid, "/" without one."""
    return next((home for _, number, _, home in _users(passwd) if number == uid and home), "/")


def resolve(user: str, passwd: bytes, group: bytes, extra_groups: Sequence[str] = ()) -> User:
    """Resolves "", "name", "uid", "name:group", "uid:gid" and their mixtures; `extra_groups` are `--group-add`'s.

    A number is never read as a name. The user's groups of the group file become supplementary ones, unless a group is
    given. A uid without an entry gets gid 0. Raises UsageError in Docker's words for an unknown name, or an id that is
    not in 0 … 2^31-1.
    """
    user_part, _, group_part = user.partition(":")
    wanted_uid = _number(user_part) if user_part else 0
    wanted_gid = _number(group_part)
    name, uid, gid, home = "", 0, 0, "/"
    for entry in _users(passwd):
        if entry[1] == wanted_uid if wanted_uid is not None else entry[0] == user_part:
            name, uid, gid, home = entry
            break
    else:
        if wanted_uid is None:
            raise UsageError(f"unable to find user {user_part}: no matching entries in passwd file")
        uid = wanted_uid

    groups = list(_groups(group)) if group_part or name or extra_groups else []
    supplementary: list[int] = []
    if group_part:
        gid = _find_group(group_part, wanted_gid, groups)
    elif name:
        supplementary = [g for _, g, members in groups if name in members]
    supplementary += [_find_group(extra, _number(extra), groups) for extra in extra_groups]
    for number in (uid, gid, *supplementary):
        _check_range(number)
    return User(uid, gid, list(dict.fromkeys([gid, *supplementary])), home or "/", name)


def _find_group(name: str, number: int | None, groups: list[tuple[str, int, list[str]]]) -> int:
    if number is not None:
        return number
    for group_name, gid, _ in groups:
        if group_name == name:
            return gid
    raise UsageError(f"unable to find group {name}: no matching entries in group file")


def _number(text: str) -> int | None:
    """The number that `text` is, or None where it is a name. Raises UsageError for a number out of range."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    number = _field(digits)
    if number:
        _check_range(-number if text[0] == "-" else number)
    return number


def _check_range(number: int) -> None:
    if not 0 <= number <= MAX_ID:
        raise UsageError(f"uids and gids must be in range 0-{MAX_ID}")


def _users(passwd: bytes) -> Iterator[tuple[str, int, int, str]]:
    """(name, uid, gid, home) of each line. A line whose ids are no numbers is skipped: it must not become root."""
    for line in passwd.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= 4 and (uid := _field(fields[2])) is not None and (gid := _field(fields[3])) is not None:
            yield fields[0], uid, gid, fields[5] if len(fields) > 5 else ""


def _groups(group: bytes) -> Iterator[tuple[str, int, list[str]]]:
    """(name, gid, members) of each line; comments and malformed lines are skipped."""
    for line in group.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= 3 and not fields[0].startswith("#") and (gid := _field(fields[2])) is not None:
            yield fields[0], gid, fields[3].split(",") if len(fields) > 3 and fields[3] else []


def _field(text: str) -> int | None:
    """An id in decimal, or None. One too long to be read cheaply is kept as out of range, so that it is refused."""
    if not (text.isascii() and text.isdigit()):
        return None
    significant = text.lstrip("0")
    return int(significant or "0") if len(significant) <= 10 else MAX_ID + 1
