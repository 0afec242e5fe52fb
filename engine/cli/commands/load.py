"""`mini load`."""

from __future__ import annotations

import sys

from engine.context import Context
from engine.errors import UsageError


def main(context: Context, input: str | None, platform: str | None, quiet: bool) -> None:
    from engine.cli.progress import choose_progress
    from engine.images.load import load

    if input is None and sys.stdin.isatty():
        raise UsageError("requested load from stdin, but stdin is empty")
    progress = choose_progress(quiet or not sys.stdout.isatty(), sys.stdout)
    source = sys.stdin.fileno() if input is None else input
    for loaded in load(context, source, platform=platform, progress=progress):
        for tag, old in loaded.renamed:
            print(f"The image {tag.familiar()} already exists, renaming the old one with ID {old} to empty string")
        for tag in loaded.tags:
            print(f"Loaded image: {tag.familiar()}", flush=True)
        if not loaded.tags:
            print(f"Loaded image ID: {loaded.image.id}", flush=True)
