"""`mini history`."""

from __future__ import annotations

import time

from engine.cli import formats, templates
from engine.cli.templates import Row
from engine.context import Context
from engine.images import describe
from engine.storage.images import ImageStore

HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_LONGEST_STEP = 45


def main(context: Context, image: str, format: str | None, human: bool, no_trunc: bool, quiet: bool) -> None:
    now = time.time()
    rows = []
    for step in describe.history(context, ImageStore(context.paths).resolve(image)):
        created = formats.seconds_of(step["Created"])
        by = step["CreatedBy"].replace("\t", " ")
        rows.append(
            Row(
                "*image.historyContext",
                {
                    "ID": step["Id"] if no_trunc else formats.short_id(step["Id"]),
                    "CreatedSince": formats.ago(step["Created"], now) if created else "N/A",
                    "CreatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created)) if created else "",
                    "CreatedBy": by if no_trunc else formats.ellipsis(by, _LONGEST_STEP),
                    "Size": formats.size(step["Size"]) if human else str(step["Size"]),
                    "Comment": step["Comment"],
                },
            )
        )
    columns = ["ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment"]
    templates.show(rows, columns, HEADERS, format, "ID" if quiet else None)
