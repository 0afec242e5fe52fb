"""Which driver keeps a container's log (`--log-driver`), as a plan that the runtime carries out.

A driver is imported where it is used: a run with json-file knows nothing of the journal.
"""

from __future__ import annotations

from engine.errors import UsageError
from engine.runtime.logs.writer import LogWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.runtime.logs.rotation import Format
    from engine.runtime.logs.writer import Driver, Entry

JSON_FILE, LOCAL, JOURNALD, NONE = "json-file", "local", "journald", "none"


class Plan:
    """Where a container's output goes, and what is noted with it.

    `attributes` are what the user wants with each record; `fields` are the journal's, for that driver. `buffer`: bytes that
    may wait for the driver (`mode=non-blocking`), None where the output waits.
    """

    __slots__ = ("attributes", "buffer", "compress", "driver", "fields", "max_files", "max_size")

    def __init__(self, driver: str, max_size: int, max_files: int, compress: bool, buffer: int | None) -> None:
        self.driver = driver
        self.max_size, self.max_files, self.compress = max_size, max_files, compress
        self.buffer = buffer
        self.attributes: dict[str, str] = {}
        self.fields: dict[str, str] = {}


def open_writer(plan: Plan, path: str) -> LogWriter | None:
    """None where nothing is kept. `path` is where the drivers that have files put them."""
    if plan.driver == NONE:
        return None
    if plan.buffer is None:
        return LogWriter(_open(plan, path))
    from engine.runtime.logs.buffer import Buffer

    return LogWriter(Buffer(lambda: _open(plan, path), plan.buffer))


def _open(plan: Plan, path: str) -> Driver:
    if plan.driver == JOURNALD:
        from engine.runtime.logs.journald import Journal

        return Journal(plan.fields)
    from engine.runtime.logs.rotation import LogFile

    return LogFile(path, _format(plan.driver, plan.attributes), plan.max_size, plan.max_files, plan.compress)


def _format(driver: str, attributes: dict[str, str] | None = None) -> Format:
    if driver == LOCAL:
        from engine.runtime.logs import local

        return local.Format()
    from engine.runtime.logs import jsonfile

    return jsonfile.Format(attributes)


def read(
    driver: str,
    container_id: str,
    path: str,
    tail: int | None = None,
    follow: Callable[[], bool] | None = None,
    since: int | None = None,
) -> Iterator[Entry]:
    """The log's entries, oldest first. `tail`: only the last so many. `since` (nanoseconds): earlier ones may be left out.

    With `follow`, goes on for as long as follow() says that somebody may still write, and until the end of what was
    written then. UsageError where the driver keeps nothing.
    """
    if driver == NONE:
        raise UsageError("configured logging driver does not support reading")
    if driver == JOURNALD:
        from engine.runtime.logs import journalreader

        return journalreader.read(container_id, tail, follow, since)
    from engine.runtime.logs import reader

    return reader.read(path, _format(driver), tail, follow, since)
