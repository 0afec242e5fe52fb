"""`mini pull`, and the pull that `run` and `create` make of an image that is not there."""

from __future__ import annotations

import sys

from engine.context import Context
from engine.errors import NotFound, PlatformMismatch, UsageError
from engine.images.reference import Reference
from engine.storage.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from engine.storage.images import Image

POLICIES = ("always", "missing", "never")


def main(context: Context, name: str, all_tags: bool, platform: str | None, quiet: bool) -> int:
    reference = Reference.parse(name)
    tagged = bool(reference.digest) or ":" in name.rpartition("/")[2]
    if all_tags:
        if tagged:
            raise UsageError("tag can't be used with --all-tags/-a")
        return _pull_all(context, reference, platform, quiet)
    if not (quiet or tagged):
        print(f"Using default tag: {reference.tag}", flush=True)
    digest = _pull(context, reference, platform, quiet, sys.stdout)
    print(digest if quiet else reference.canonical())
    return 0


def _pull_all(context: Context, reference: Reference, platform: str | None, quiet: bool) -> int:
    """Every tag of the repository. One that has no image for this platform is said, and does not stop the others."""
    from engine.cli.progress import choose_progress
    from engine.images.pull import pull
    from engine.images.registry import Registry

    registry = Registry(reference, context.environ)
    try:
        tags = registry.list_tags()
    finally:
        registry.close()
    code, new = 0, False
    for tag in tags:
        progress = choose_progress(quiet, sys.stdout, with_status=False)
        try:
            pulled = pull(
                context, Reference(reference.domain, reference.path, tag), platform=platform, progress=progress
            )
        except PlatformMismatch as e:
            print(f"mini: {e.message}", file=sys.stderr, flush=True)
            code = 1
        else:
            new = new or pulled.status.startswith("Downloaded")
            if quiet:
                print(pulled.digest, flush=True)
    if not quiet:
        status = "Downloaded newer image" if new else "Image is up to date"
        print(f"Status: {status} for {reference.familiar_name}")
        print(reference.repository)
    return code


def _pull(context: Context, reference: Reference, platform: str | None, quiet: bool, stream: TextIO) -> str:
    """The digest of what the reference points to."""
    from engine.cli.progress import choose_progress
    from engine.images.pull import pull

    return pull(context, reference, platform=platform, progress=choose_progress(quiet, stream)).digest


def ensure(context: Context, name: str, policy: str, platform: str | None, quiet: bool) -> None:
    """Makes sure that the image of `run NAME` is there, by `--pull`. An unknown image is left to whoever uses it."""
    if policy not in POLICIES:
        raise UsageError(f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"')
    if policy != "always":
        image = ImageStore(context.paths).find(name)
        mismatch = _mismatch(image, platform) if image and platform else None
        if image and not mismatch:
            return
        if policy == "never":
            if mismatch:
                raise NotFound(f"image with reference {name} was found but {mismatch}")
            return
    reference = Reference.parse(name)
    if policy == "missing" and not quiet:
        print(f"Unable to find image '{reference.familiar()}' locally", file=sys.stderr, flush=True)
    _pull(context, reference, platform, quiet, sys.stderr)


def _mismatch(image: Image, platform: str) -> str | None:
    """Why the image is not one of the platform asked for, in Docker's words."""
    from engine.oci.image import Platform

    wanted, found = Platform.parse(platform), Platform.from_json(image.config, image.id)
    if found in wanted.candidates():
        return None
    return f"its platform ({found}) does not match the specified platform ({wanted})"
