"""`mini fsck`: one line a finding, a summary, and which images have to be pulled again."""

from __future__ import annotations

import sys

from engine.cli import formats
from engine.context import Context
from engine.system import fsck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.storage.findings import Finding


def main(context: Context, repair: bool, quiet: bool) -> int:
    """Exit code 1 where something is damaged, also if it was mended, as fsck(8) has it; rubbish is none."""
    report = fsck.fsck(context, repair)
    for finding in report.findings:
        if not quiet or finding.kind == "damaged":
            print(_line(finding, report.done.get(finding)))
    if not quiet:
        print(_summary(report))
    for image_id, name in sorted(report.pull.items(), key=lambda item: item[1]):
        print(f"pull it again: mini pull {name}" if name else f"nothing names it, remove it: mini rmi {image_id[7:19]}")
    if report.findings and not repair:
        sys.stdout.flush()
        print("mini fsck --repair mends what can be mended", file=sys.stderr)
    return 1 if report.damaged else 0


def _line(finding: Finding, done: str | None) -> str:
    return f"{finding}" + (f" ({done})" if done else "")


def _summary(report: fsck.Report) -> str:
    have = report.checked
    checked = [_count(have.get(f"{noun}s", 0), noun) for noun in ("image", "layer", "container", "volume")]
    found = [
        f"{count} {kind}"
        for kind in ("damaged", "missing", "rubbish")
        if (count := sum(f.kind == kind for f in report.findings))
    ]
    size = formats.size(have.get("bytes", 0))
    return f"checked {', '.join(checked)}, {size} of content: {', '.join(found) or 'all is as it must be'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
