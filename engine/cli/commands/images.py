"""`mini images`."""

from __future__ import annotations

import time

from engine.cli import formats, templates
from engine.cli.templates import Row
from engine.context import Context
from engine.images.reference import Reference
from engine.storage.images import Image, ImageStore
from engine.times import nanoseconds_of

HEADERS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}
TYPE = "*formatter.imageContext"
NONE = "<none>"
# What Docker has a field for and counts only in `system df`.
_RAW_QUIET = "image_id: {{.ID}}"
_RAW = """\
repository: {{.Repository}}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
"""
_NOT_COUNTED = {"Containers": "N/A", "SharedSize": "N/A", "UniqueSize": "N/A"}


def main(
    context: Context,
    repository: str | None,
    all: bool,
    digests: bool,
    filter: list[str],
    format: str | None,
    no_trunc: bool,
    quiet: bool,
) -> None:
    now = time.time()
    rows = []
    filters = _Filters(context, filter) if filter else None
    if digests and (format or "").startswith("table {{") and "{{.Digest}}" not in (format or ""):
        format = f"{format}\t{{{{.Digest}}}}"
    digests = digests or "{{.Digest}}" in (format or "")
    for image in ImageStore(context.paths).list_():
        if filters and not filters.match(image):
            continue
        for name, tag, digest in names(image, digests):
            if repository and not _matches(repository, name, tag) or filters and not filters.match_name(name, tag):
                continue
            rows.append(
                Row(
                    TYPE,
                    {
                        "Repository": name,
                        "Tag": tag,
                        "Digest": digest,
                        "ID": image.id if no_trunc else image.short_id,
                        "CreatedSince": formats.ago(image.created, now) if formats.seconds_of(image.created) else "N/A",
                        "CreatedAt": formats.local_time(formats.seconds_of(image.created)),
                        "Size": formats.size(image.size),
                        "VirtualSize": formats.exact_size(image.size),
                        **_NOT_COUNTED,
                    },
                )
            )
    columns = ["Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size"]
    templates.show(rows, columns, HEADERS, format, "ID" if quiet else None, _RAW_QUIET if quiet else _RAW)


class _Filters:
    """`--filter`, Docker's (moby, daemon/images/images.go): of several references one must match, of the rest all."""

    def __init__(self, context: Context, given: list[str]) -> None:
        """UsageError and NotFound in Docker's words."""
        from engine.cli import values
        from engine.system import prune

        by_name: dict[str, list[str]] = {"before": [], "since": [], "reference": []}
        rest: list[str] = []
        for text in given:
            name, _, value = text.partition("=")
            by_name.get(name, rest).append(value if name in by_name else text)
        store = ImageStore(context.paths)
        self._before, self._since = (
            [nanoseconds_of(store.resolve(value).created) for value in by_name[name]] for name in ("before", "since")
        )
        self._references = by_name["reference"]
        known = ("dangling", "label", "until", *by_name)
        self._rest = prune.Filters(rest, known, lambda text: values.since(text, time.time()))

    def match(self, image: Image) -> bool:
        created = nanoseconds_of(image.created)
        dangling = self._rest.switches.get("dangling")
        return (
            all(created < bound for bound in self._before)
            and all(created > bound for bound in self._since)
            and dangling in (None, not image.tags)
            and self._rest.match((image.config.get("config") or {}).get("Labels"), created / 1e9)
        )

    def match_name(self, name: str, tag: str) -> bool:
        return not self._references or any(_matches(wanted, name, tag) for wanted in self._references)


def names(image: Image, digests: bool) -> list[tuple[str, str, str]]:
    """(repository, tag, digest) of each line that the image has, as Docker splits them."""
    by_repository: dict[str, list[str]] = {}
    for text in image.repo_digests:
        reference = Reference.parse(text)
        by_repository.setdefault(reference.familiar_name, []).append(reference.digest or NONE)
    lines = []
    tagged = set()
    for text in image.tags:
        reference = Reference.parse(text)
        name = reference.familiar_name
        tagged.add(name)
        for digest in (by_repository.get(name) or [NONE]) if digests else [NONE]:
            lines.append((name, reference.tag or NONE, digest))
    for name, values in by_repository.items():
        if name not in tagged:
            lines += [(name, NONE, digest) for digest in (values if digests else values[:1])]
    return lines or [(NONE, NONE, NONE)]


def _matches(wanted: str, name: str, tag: str) -> bool:
    """`alpine` means every tag, `alpine:3.20` one; `*` and `?` are patterns within a path component, as in Docker."""
    reference = wanted.removeprefix("docker.io/").removeprefix("library/")
    slash = reference.rfind("/")
    repository, colon, wanted_tag = reference, "", ""
    if ":" in reference[slash + 1 :]:
        repository, colon, wanted_tag = reference.rpartition(":")
    if not any(c in reference for c in "*?["):
        return repository == name and (not colon or wanted_tag == tag)
    from fnmatch import fnmatchcase

    same_depth = repository.count("/") == name.count("/")
    return same_depth and fnmatchcase(name, repository) and (not colon or fnmatchcase(tag, wanted_tag))
