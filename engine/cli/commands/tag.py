"""`mini tag`."""

from __future__ import annotations

from engine.context import Context
from engine.errors import InvalidReference
from engine.images.reference import Reference
from engine.system import imageuse


def main(context: Context, source: str, target: str) -> None:
    try:
        reference = Reference.parse(target)
    except InvalidReference as e:
        raise InvalidReference(f'Error parsing reference: "{target}" is not a valid repository/tag: {e.message}') from e
    if reference.digest:
        raise InvalidReference("refusing to create a tag with a digest reference")
    if reference.familiar_name == "sha256":
        raise InvalidReference("refusing to create an ambiguous tag using digest algorithm as name")
    imageuse.tag(context, source, reference)
