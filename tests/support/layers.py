"""Layers built by hand, byte by byte, and what a tree on a disk is like, for the tests of the storage drivers."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine import files, linux
from engine.paths import Paths
from engine.runtime import mounts
from engine.storage.drivers import Driver

FILE, LINK, SYMLINK, CHAR, BLOCK, DIR, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
Pax = Sequence[tuple[str | bytes, str | bytes]]


def header(
    name: bytes | str,
    kind: bytes = FILE,
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    link: bytes | str = b"",
    rdev: tuple[int, int] = (0, 0),
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """One header block. `tail` overwrites the end of the block, from byte 345 (the prefix) on."""
    raw = b"".join(
        (
            _raw(name).ljust(100, b"\0"),
            b"%07o\0" % mode,
            _number(uid, 8),
            _number(gid, 8),
            _number(size, 12),
            _number(mtime, 12),
            b" " * 8,
            kind,
            _raw(link).ljust(100, b"\0"),
            magic.ljust(8, b"\0"),
            bytes(64),
            _number(rdev[0], 8),
            _number(rdev[1], 8),
            (tail or prefix).ljust(167, b"\0"),
        )
    )
    return with_checksum(raw)


def with_checksum(raw: bytes) -> bytes:
    blank = raw[:148] + b" " * 8 + raw[156:]
    return raw[:148] + b"%06o\0 " % sum(blank) + raw[156:]


def _number(value: int, width: int) -> bytes:
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    raw = bytearray(value.to_bytes(width, "big", signed=True))  # base-256
    raw[0] |= 0x80
    return bytes(raw)


def _raw(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else os.fsencode(text)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(records: Pax, kind: bytes = b"x") -> bytes:
    """A pax header with these records."""
    data = b""
    for key, value in records:
        body = b" " + _raw(key) + b"=" + _raw(value) + b"\n"
        length = len(body) + len(str(len(body) + len(str(len(body)))))
        data += str(length).encode() + body
    return header("pax", kind, len(data)) + padded(data)


def file(name: bytes | str, data: bytes = b"", pax_records: Pax = (), **fields: Any) -> bytes:
    return entry(name, fields.pop("kind", FILE), pax_records, **({"mode": 0o644} | fields), size=len(data)) + padded(
        data
    )


def entry(name: bytes | str, kind: bytes, pax_records: Pax = (), **fields: Any) -> bytes:
    """A member without data; names that a header cannot hold go into a pax header."""
    fields.setdefault("mode", 0o755)
    records = list(pax_records)
    for key, value in (("path", name), ("linkpath", fields.get("link", b""))):
        if len(_raw(value)) > 100:
            records.append((key, value))
    if "link" in fields:
        fields["link"] = _raw(fields["link"])[:100]
    return (pax(records) if records else b"") + header(_raw(name)[:100], kind, **fields)


def directory(name: bytes | str, pax_records: Pax = (), **fields: Any) -> bytes:
    return entry(name, DIR, pax_records, **fields)


def symlink(name: bytes | str, target: bytes | str, **fields: Any) -> bytes:
    return entry(name, SYMLINK, link=target, **({"mode": 0o777} | fields))


def hard_link(name: bytes | str, target: bytes | str) -> bytes:
    return entry(name, LINK, link=target)


def whiteout(name: str) -> bytes:
    parent, base = os.path.split(name)
    return file(os.path.join(parent, ".wh." + base))


def opaque(name: str) -> bytes:
    return file(os.path.join(name, ".wh..wh..opq"))


def archive(*members: bytes) -> bytes:
    return b"".join(members) + bytes(1024)


def store(driver: Driver, layers: Sequence[bytes]) -> list[str]:
    """Puts the layers into the store; their DiffIDs."""
    diff_ids = []
    for tar in layers:
        diff_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
        with driver.layer_sink(diff_ids[-1]) as sink:
            sink.write(tar)
            sink.commit()
    return diff_ids


@contextmanager
def mounted(driver: Driver, diff_ids: list[str], place: str) -> Iterator[str]:
    """A container's root on these layers, mounted at `place` by mini's own executor."""
    name = f"c-{driver.name}"
    driver.create_root(name, diff_ids)
    root = driver.root_mounts(name, diff_ids)
    points = [place]
    os.makedirs(place, exist_ok=True)
    try:
        if root.image:
            points.append(root.image["destination"])
            os.makedirs(points[-1], exist_ok=True)
            mounts.mount_host(root.image)
        (overlay,) = root.root
        mounts.mount_host({**overlay, "destination": place})
        yield place
    finally:
        for point in points:
            try:
                linux.umount2(point)
            except OSError:
                pass
        files.remove_tree(driver.paths.container(name))


def shown(paths: Paths, driver: Driver, diff_ids: list[str]) -> dict[bytes, dict[str, Any]]:
    """What a container of these layers sees."""
    with mounted(driver, diff_ids, f"{paths.root}/root-{driver.name}") as place:
        return scan(place)


def scan(top: str | bytes | os.PathLike[str]) -> dict[bytes, dict[str, Any]]:
    """Everything at and below `top`, by relative path. Of directories neither size nor link count: file systems differ."""
    found: dict[bytes, dict[str, Any]] = {}
    pending = [(os.fsencode(top), b".")]
    while pending:
        path, relative = pending.pop()
        status = os.lstat(path)
        found[relative] = about = {
            "mode": oct(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
            "mtime": status.st_mtime_ns,
            "xattrs": {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            },
        }
        if stat.S_ISDIR(status.st_mode):
            for name in os.listdir(path):
                pending.append((path + b"/" + name, name if relative == b"." else relative + b"/" + name))
            continue
        about["nlink"] = status.st_nlink
        if stat.S_ISREG(status.st_mode):
            about["size"] = status.st_size
            about["sha256"] = _digest(path)
        elif stat.S_ISLNK(status.st_mode):
            about["target"] = os.readlink(path)
        else:
            about["rdev"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return found


def _digest(path: bytes) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
