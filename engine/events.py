"""The event log: what happened to containers, images, volumes and networks, as Docker's daemon tells it.

There is no daemon that all could listen to, so whoever does something appends a line to ROOT/events.jsonl, and `mini events`
follows the file (eventstream.py):

    {"Type":"container","Action":"die","Actor":{"ID":"…","Attributes":{"image":"alpine","name":"web","exitCode":"0"}},
     "scope":"local","time":1795503222,"timeNano":1795503222721100818}

One write(2) with O_APPEND a line: the kernel puts it at the end as a whole, whoever else writes (open(2)). Not synced: 0.04 ms.
A full file becomes events.jsonl.1, whose predecessor goes, so the log stays below 2 × MAX_SIZE. An event that cannot be
written (full disk, read-only root) is lost, and fails nothing.
"""

from __future__ import annotations

import os
import time

from engine import lean
from engine.errors import MiniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from engine.containers.records import Record
    from engine.paths import Paths

MAX_SIZE = 5_000_000


def emit(paths: Paths, kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
    """Appends one event. `kind` is container, image, volume or network; `actor` the object's ID or name. Never fails."""
    now = time.time_ns()
    line = lean.dumps(
        {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": actor, "Attributes": dict(attributes)},
            "scope": "local",
            "time": now // 1_000_000_000,
            "timeNano": now,
        }
    )
    try:
        fd = os.open(paths.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            os.write(fd, line + b"\n")
            status = os.fstat(fd)
        finally:
            os.close(fd)
        if status.st_size >= MAX_SIZE:
            _rotate(paths, status.st_ino)
    except (OSError, MiniError):
        return


def _rotate(paths: Paths, inode: int) -> None:
    """Of several who found the file full, the first renames it; the others see another file under its name."""
    from engine import files

    with files.FileLock(paths.lock("events")):
        if os.stat(paths.events).st_ino == inode:
            os.rename(paths.events, f"{paths.events}.1")


def container(record: Record, action: str, **attributes: str) -> None:
    """An event of a container, with its image, name and labels, as Docker has them."""
    config = record.config
    own = {"image": config["Config"]["Image"], "name": record.name}
    emit(record.paths, "container", action, record.id, (config["Config"].get("Labels") or {}) | own | attributes)


def image(paths: Paths, action: str, actor: str, config: Mapping[str, Any], name: str | None = None) -> None:
    """An event of an image; `config` is its OCI config, `name` what Docker shows as such (None: the actor)."""
    labels = (config.get("config") or {}).get("Labels") or {}
    emit(paths, "image", action, actor, labels | {"name": name or actor})


def network(paths: Paths, endpoint: Mapping[str, Any], action: str, container_id: str) -> None:
    """A container's connect or disconnect, from its endpoint."""
    name = endpoint["network"]
    kind = {"host": "host", "none": "null"}.get(name, "bridge")
    emit(paths, "network", action, endpoint["network_id"], {"container": container_id, "name": name, "type": kind})
