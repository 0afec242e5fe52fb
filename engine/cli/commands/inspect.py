"""`mini inspect`, and `inspect` of containers, images, volumes and networks.

What exists is printed as one JSON list even when something is missing; each missing name is one line of error, exit code 1.
"""

from __future__ import annotations

import sys

from engine.cli import templates
from engine.context import Context
from engine.errors import InvalidReference, MiniError, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Finder = Callable[[Context, str], Any]


def anything(context: Context, names: list[str], format: str | None, size: bool, type: str | None) -> int:
    finders: dict[str, Finder] = {"container": _container, "image": _image, "volume": _volume, "network": _network}
    if size:
        finders = {kind: _sized if kind == "container" else _unsized(kind, find) for kind, find in finders.items()}
    if type and type not in finders:
        known = ", ".join(f'"{kind}"' for kind in sorted(finders))
        raise UsageError(f'unknown type: "{type}": must be one of {known}')
    kinds = [finders[type]] if type else list(finders.values())
    return _show(context, names, format, kinds)


def containers(context: Context, names: list[str], format: str | None, size: bool) -> int:
    return _show(context, names, format, [_sized if size else _container])


def images(context: Context, names: list[str], format: str | None) -> int:
    return _show(context, names, format, [_image])


def volumes(context: Context, names: list[str], format: str | None) -> int:
    return _show(context, names, format, [_volume])


def networks(context: Context, names: list[str], format: str | None) -> int:
    return _show(context, names, format, [_network])


def _show(context: Context, names: list[str], format: str | None, kinds: Sequence[Finder]) -> int:
    found, missing = [], []
    for name in names:
        try:
            found.append(_first(context, name, kinds))
        except NotFound as e:
            missing.append(e.message)
    if not format:
        import json

        print(json.dumps(found, indent=4, ensure_ascii=False))
    elif format == "json":
        print(templates.one("json", found))
    else:
        parts = templates.parse(format)
        for value in found:
            print(templates.render(parts, value))
    sys.stdout.flush()
    for message in missing:
        print(message, file=sys.stderr)
    return 1 if missing else 0


def _first(context: Context, name: str, kinds: Sequence[Finder]) -> Any:
    """The first object of that name, in Docker's order of kinds. NotFound carries the whole line to print."""
    error: MiniError | None = None
    for kind in kinds:
        try:
            return kind(context, name)
        except (NotFound, InvalidReference) as e:
            error = e
    raise NotFound(f"mini: {error.message}" if error and len(kinds) == 1 else f"Error: No such object: {name}")


def _container(context: Context, name: str) -> Any:
    from engine.containers import views

    return views.inspect(context, name)


def _sized(context: Context, name: str) -> Any:
    from engine.containers import listing

    found = _container(context, name)
    return found | dict(zip(("SizeRw", "SizeRootFs"), listing.sizes(context, found), strict=True))


def _unsized(kind: str, find: Finder) -> Finder:
    def find_and_warn(context: Context, name: str) -> Any:
        found = find(context, name)
        print(f"WARNING: --size ignored for {kind}", file=sys.stderr)
        return found

    return find_and_warn


def _image(context: Context, name: str) -> Any:
    from engine.images import describe
    from engine.storage.images import ImageStore

    return describe.inspect(context, ImageStore(context.paths).resolve(name))


def _volume(context: Context, name: str) -> Any:
    from engine.storage.volumes import Volumes

    return Volumes(context.paths).inspect(name)


def _network(context: Context, name: str) -> Any:
    from engine.cli.commands import network

    return network.inspect(context, name)
