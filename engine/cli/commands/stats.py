"""`mini stats`: a table that is drawn again every second, or once."""

from __future__ import annotations

import sys
import time

from engine.cli import formats, templates
from engine.cli.templates import Row
from engine.containers import statistics
from engine.containers.statistics import Sample
from engine.context import Context
from engine.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.containers.records import Record

COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
HEADERS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_INTERVAL = 1.0
# To the top left; the rest of a line, and of the screen: the last picture may have been longer (console_codes(4)).
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\033[H", "\033[K", "\033[J"


def main(
    context: Context, container: list[str], all: bool, format: str | None, no_stream: bool, no_trunc: bool
) -> None:
    view = _View(context, container, all, not no_trunc)
    view.look()
    if not no_stream:
        _draw(view.text(format))
    while view.watched or not container:
        time.sleep(_INTERVAL)
        view.look()
        if no_stream:
            print(view.text(format), end="")
            return
        _draw(view.text(format))


def _draw(text: str) -> None:
    lines = "".join(f"{line}{_REST_OF_LINE}\n" for line in text.splitlines())
    print(f"{_HOME}{lines}{_REST_OF_SCREEN}", end="")
    sys.stdout.flush()


class _View:
    """What is watched, with the last two samples of each: a percentage of the processor needs both."""

    def __init__(self, context: Context, names: list[str], all: bool, truncate: bool) -> None:
        """NotFound for one of the names."""
        self._context, self._names, self._all, self._truncate = context, names, all, truncate
        self._records = [(name, statistics.find(context, name)) for name in names]
        self._samples: dict[str, tuple[Sample | None, Sample]] = {}

    @property
    def watched(self) -> bool:
        return bool(self._records)

    def look(self) -> None:
        """Another sample of each. Those removed drop out; without names, those that have started come in."""
        if not self._names:
            self._records = [(r.id[:12], r) for r in statistics.running(self._context, self._all)]
        samples = {}
        kept = []
        for name, record in self._records:
            try:
                now = statistics.sample(self._context, record)
            except NotFound:
                continue
            before = self._samples.get(record.id)
            samples[record.id] = (before[1] if before else None, now)
            kept.append((name, record))
        self._records, self._samples = kept, samples

    def text(self, format: str | None) -> str:
        rows = [self._row(name, record) for name, record in self._records]
        if format and format != "table":
            return templates.rows(format, rows, HEADERS)
        return formats.table([[HEADERS[c] for c in COLUMNS], *([row[c] for c in COLUMNS] for row in rows)])

    def _row(self, name: str, record: Record) -> Row:
        before, now = self._samples[record.id]
        cpu = statistics.cpu_percent(before, now) if before else 0.0
        fields = {
            "Container": name,
            "ID": record.id[:12] if self._truncate else record.id,
            "Name": record.name,
            "CPUPerc": f"{cpu:.2f}%",
            "MemUsage": f"{formats.binary_size(now.memory)} / {formats.binary_size(now.limit)}",
            "MemPerc": f"{now.memory_percent:.2f}%",
            "NetIO": f"{formats.size(now.received)} / {formats.size(now.sent)}",
            "BlockIO": f"{formats.size(now.read)} / {formats.size(now.written)}",
            "PIDs": str(now.pids),
        }
        return Row("*container.statsContext", fields)
