"""`mini inspect`, and `inspect` of containers, images, volumes and networks.

What exists is printed as one JSON list even when something is missing; each missing name is one line of error, exit code 1.
"""

from __future__ import annotations

import sys

from engine import lean
from engine.cli import templates
from engine.context import Context
from engine.errors import InvalidReference, MiniError, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from engine.cli.gotemplate.parser import Template

    # (the Go type of what was found, its JSON)
    Finder = Callable[[Context, str], tuple[str, Any]]

_CONTAINER, _IMAGE, _VOLUME, _NETWORK = (
    "container.InspectResponse",
    "image.InspectResponse",
    "volume.Volume",
    "network.Inspect",
)


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


def networks(context: Context, names: list[str], format: str | None, verbose: bool) -> int:
    """`verbose` is for Swarm's services, of which there are none."""
    return _show(context, names, format, [_network])


def _show(context: Context, names: list[str], format: str | None, kinds: Sequence[Finder]) -> int:
    template = templates.parse(format, exit_code=64) if format and format != "json" else None
    found, shown, errors = [], [], []
    for name in names:
        try:
            go_type, value = _first(context, name, kinds)
            found.append((go_type, value))
            shown.append(_by_template(template, go_type, value) if template else _json(go_type, value))
        except NotFound as e:
            errors.append(e.message)
        except MiniError as e:
            errors.append(f"mini: {e.message}")
    if template:
        print("\n".join(shown))
    elif format:
        print(f"[{','.join(shown)}]")
    else:
        import json

        print(json.dumps([_plain(*each) for each in found], indent=4, ensure_ascii=False))
    sys.stdout.flush()
    for message in errors:
        print(message, file=sys.stderr)
    return 1 if errors else 0


def _json(go_type: str, value: dict[str, Any]) -> str:
    """As Docker orders the fields."""
    from engine.cli import gotypes

    return templates.compact_json(gotypes.typed(go_type, value))


def _plain(go_type: str, value: dict[str, Any]) -> Any:
    """As Docker's daemon orders the fields. What mini keeps of a container is in an order of its own."""
    return _ordered(lean.loads(_json(go_type, value)), value) if go_type == _CONTAINER else value


def _ordered(shown: Any, value: Any) -> Any:
    """What is shown, and behind it what of the value it leaves out: the struct omits what is empty, Docker's daemon does not."""
    if isinstance(shown, dict) and isinstance(value, dict):
        known = {key: _ordered(item, value[key]) if key in value else item for key, item in shown.items()}
        return known | {key: item for key, item in value.items() if key not in shown}
    if isinstance(shown, list) and isinstance(value, list):
        return [_ordered(*pair) for pair in zip(shown, value, strict=True)]
    return shown


def _by_template(template: Template, go_type: str, value: dict[str, Any]) -> str:
    """On the Go struct; if that fails, on the JSON, where a missing key is an error: as Docker's client does it."""
    from engine.cli import gotypes
    from engine.cli.gotemplate.execute import execute
    from engine.cli.gotemplate.values import numbers_as_text

    struct = gotypes.typed(go_type, value)
    try:
        return execute(template, struct)
    except UsageError as e:
        if go_type == _VOLUME:
            raise UsageError(templates.PREFIX + e.message) from None
    try:
        return execute(template, numbers_as_text(lean.loads(templates.compact_json(struct))), missing_is_error=True)
    except UsageError as e:
        raise UsageError(templates.PREFIX + e.message) from None


def _first(context: Context, name: str, kinds: Sequence[Finder]) -> tuple[str, Any]:
    """The first object of that name, with its Go type, in Docker's order of kinds. NotFound carries the whole line to print."""
    error: MiniError | None = None
    for kind in kinds:
        try:
            return kind(context, name)
        except (NotFound, InvalidReference) as e:
            error = e
    raise NotFound(f"mini: {error.message}" if error and len(kinds) == 1 else f"Error: No such object: {name}")


def _container(context: Context, name: str) -> tuple[str, Any]:
    from engine.containers import views

    return _CONTAINER, views.inspect(context, name)


def _sized(context: Context, name: str) -> tuple[str, Any]:
    from engine.containers import listing

    go_type, found = _container(context, name)
    return go_type, found | dict(zip(("SizeRw", "SizeRootFs"), listing.sizes(context, found), strict=True))


def _unsized(kind: str, find: Finder) -> Finder:
    def find_and_warn(context: Context, name: str) -> tuple[str, Any]:
        found = find(context, name)
        print(f"WARNING: --size ignored for {kind}", file=sys.stderr)
        return found

    return find_and_warn


def _image(context: Context, name: str) -> tuple[str, Any]:
    from engine.images import describe
    from engine.storage.images import ImageStore

    return _IMAGE, describe.inspect(context, ImageStore(context.paths).resolve(name))


def _volume(context: Context, name: str) -> tuple[str, Any]:
    from engine.storage.volumes import Volumes

    return _VOLUME, Volumes(context.paths).inspect(name)


def _network(context: Context, name: str) -> tuple[str, Any]:
    from engine.cli.commands import network

    return _NETWORK, network.inspect(context, name)
