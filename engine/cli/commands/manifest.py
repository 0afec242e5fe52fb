"""`mini manifest inspect`."""

from __future__ import annotations

from engine.context import Context
from engine.images.inspect import describe_manifest, raw_manifest
from engine.images.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def inspect(context: Context, name: str, verbose: bool) -> None:
    reference = Reference.parse(name)
    if verbose:
        print(_json(describe_manifest(context, reference), "\t"))
    else:
        document = raw_manifest(context, reference)
        print(_json(document, "   " if "manifests" in document else "\t"))


def _json(value: Any, indent: str) -> str:
    import json

    return json.dumps(value, indent=indent, ensure_ascii=False)
