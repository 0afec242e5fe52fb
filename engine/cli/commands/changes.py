"""`mini diff` and `mini commit`."""

from __future__ import annotations

from engine.context import Context


def diff(context: Context, container: str) -> None:
    from engine.containers import commit

    for kind, path in commit.diff(context, container):
        print(f"{kind} {path}")


def commit(
    context: Context,
    container: str,
    reference: str | None,
    author: str,
    change: list[str],
    message: str,
    pause: bool,
) -> None:
    from engine.containers import commit as commits
    from engine.images.reference import Reference

    name = Reference.parse(reference) if reference else None
    image = commits.commit(context, container, name, author=author, message=message, changes=change, pause=pause)
    print(image.id)
