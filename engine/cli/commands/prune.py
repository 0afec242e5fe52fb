"""`mini image prune`, `container prune`, `volume prune` and `system prune`, with Docker's questions and listings."""

from __future__ import annotations

import sys
import time

from engine.cli import formats, values
from engine.context import Context
from engine.errors import UsageError
from engine.system import fsck, prune
from engine.system.prune import Filters, ImageChoice, Pruned

_QUESTION = "Are you sure you want to continue? [y/N] "
_LABELS = ("label", "label!")


def containers(context: Context, filter: list[str], force: bool) -> None:
    filters = _filters(filter, "until", *_LABELS)
    if force or _agreed("WARNING! This will remove all stopped containers."):
        _show([("Containers", prune.prune_containers(context, filters))])


def volumes(context: Context, all: bool, filter: list[str], force: bool) -> None:
    filters = _filters(filter, "all", *_LABELS)
    named = all or filters.switches.get("all", False)
    which = "all" if named else "anonymous"
    if force or _agreed(f"WARNING! This will remove {which} local volumes not used by at least one container."):
        _show([("Volumes", prune.prune_volumes(context, filters, named))])


def networks(context: Context, filter: list[str], force: bool) -> None:
    from engine.system import networks

    filters = _filters(filter, "until", *_LABELS)
    if force or _agreed("WARNING! This will remove all custom networks not used by at least one container."):
        removed = networks.prune(context, filters.match)
        print(*(["Deleted Networks:", *removed, ""] if removed else []), sep="\n", end="\n" if removed else "")


def images(
    context: Context, all: bool, filter: list[str], force: bool, keep_storage: int | None, unused_for: int | None
) -> None:
    filters = _filters(filter, "until", "dangling", *_LABELS)
    unused_since = None if unused_for is None else time.time() - unused_for / 1e9
    choice = ImageChoice(filters, all, unused_since, keep_storage)
    which = "images without at least one container associated to them" if all else "dangling images"
    if force or _agreed(f"WARNING! This will remove all {which}."):
        _show([("Images", prune.prune_images(context, choice))])


def system(context: Context, all: bool, filter: list[str], force: bool, volumes: bool) -> None:
    filters = _filters(filter, "until", *_LABELS)
    if volumes and filters.until is not None:
        raise UsageError('The "until" filter is not supported with "--volumes"')
    if not (force or _agreed(_system_warning(all, volumes, filter))):
        return
    from engine.system import networks

    done = [("Containers", prune.prune_containers(context, filters))]
    done.append(("Networks", Pruned(networks.prune(context, filters.match))))
    if volumes:
        done.append(("Volumes", prune.prune_volumes(context, filters)))
    done.append(("Images", prune.prune_images(context, ImageChoice(filters, all))))
    fsck.sweep(context)
    _show(done)


def _filters(given: list[str], *known: str) -> Filters:
    return Filters(given, known, lambda text: values.since(text, time.time()))


def _system_warning(all: bool, volumes: bool, filter: list[str]) -> str:
    items = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        items.append("all anonymous volumes not used by at least one container")
    items.append("all images without at least one container associated to them" if all else "all dangling images")
    items.append("all build cache" if all else "unused build cache")
    text = "WARNING! This will remove:\n" + "".join(f"  - {item}\n" for item in items)
    if filter:
        text += "\n  Items to be pruned will be filtered with:\n" + "".join(f"  - {f}\n" for f in sorted(filter))
    return text


def _agreed(warning: str) -> bool:
    """Docker's question, which whatever stdin is may answer; its end and Ctrl-C mean no."""
    try:
        print(warning, _QUESTION, sep="\n", end="", flush=True)
        return sys.stdin.readline().strip().lower() == "y"
    except KeyboardInterrupt:
        print()
        return False


def _show(done: list[tuple[str, Pruned]]) -> None:
    for noun, pruned in done:
        if pruned.removed:
            print(f"Deleted {noun}:", *pruned.removed, "", sep="\n")
    print("Total reclaimed space:", formats.exact_size(sum(pruned.freed for _, pruned in done)))
