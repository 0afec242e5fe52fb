"""`mini push`."""

from __future__ import annotations

import sys

from engine.context import Context
from engine.errors import UsageError
from engine.images.reference import Reference


def main(context: Context, name: str, all_tags: bool, quiet: bool) -> None:
    from engine.cli.progress import choose_push_progress
    from engine.images.push import push

    reference = Reference.parse(name)
    tagged = bool(reference.digest) or ":" in name.rpartition("/")[2]
    if all_tags and tagged:
        raise UsageError("tag can't be used with --all-tags/-a")
    if not (all_tags or tagged or quiet):
        print(f"Using default tag: {reference.tag}", flush=True)
    push(context, reference, all_tags=all_tags, progress=choose_push_progress(quiet, sys.stdout))
    if quiet:
        print(reference.repository if all_tags else reference.canonical())
