"""Images and the containers that use them: what removal has to know and to do on the host."""

from __future__ import annotations

import os

from engine import events
from engine.containers import lifecycle, records
from engine.containers.views import refresh
from engine.storage.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from engine.context import Context
    from engine.images.reference import Reference


def images_of(config: Mapping[str, Any]) -> list[str]:
    """IDs of the images that a container needs: its own, and those that are mounted in it."""
    return [config["Image"], *(m["Image"] for m in config["Mounts"] if m["Type"] == "image")]


def users(ctx: Context, image_id: str) -> list[tuple[str, bool]]:
    """(container ID, whether it runs) for every container that needs the image."""
    return [
        (r.id, bool(refresh(ctx, r)["Running"])) for r in records.list_all(ctx.paths) if image_id in images_of(r.config)
    ]


def tag(ctx: Context, source: str, target: Reference) -> None:
    """Gives an image one more name, which it takes from whatever had it. NotFound for no such image."""
    store = ImageStore(ctx.paths)
    image = store.resolve(source)
    store.tag(image, target.canonical())
    events.image(ctx.paths, "tag", image.id, image.config, target.familiar())


def remove(ctx: Context, name: str, force: bool = False) -> list[tuple[str, str]]:
    """`rmi`: ("Untagged" or "Deleted", what), in Docker's order; Conflict where a container uses it."""
    store = ImageStore(ctx.paths)
    image = store.find(name)
    config = image.config if image else {}
    done = store.remove(name, force, lambda i: users(ctx, i), lambda c: unmount(ctx, c))
    for action, what in done if image else ():
        if image and (action == "Untagged" or what == image.id):
            events.image(ctx.paths, "untag" if action == "Untagged" else "delete", image.id, config)
    return done


def finish_removals(ctx: Context) -> None:
    """Deletes what removals left that waited for a container, or were killed. Idempotent."""
    ImageStore(ctx.paths).finish_removals(lambda i: users(ctx, i), lambda c: unmount(ctx, c))


def unmount(ctx: Context, chain_id: str) -> None:
    """Takes the image's mount off the host. Containers that run keep theirs: overlayfs has a clone of it."""
    from engine.runtime import mounts

    point = ctx.paths.image_mount(chain_id)
    if os.path.isdir(point):
        if lifecycle.is_mounted(point):
            mounts.unmount(point)
        os.rmdir(point)
