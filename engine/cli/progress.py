"""How a pull and a push look: Docker's lines, with one tqdm bar a layer where there is a terminal."""

from __future__ import annotations

import os
import threading
from typing import TextIO

from tqdm import tqdm

from engine.cli.formats import size as human_size
from engine.images.progress import LayerProgress, Progress, PushProgress, Silent, SilentPush
from engine.images.reference import Reference

# By the terminal's width, so that a line is never cut in the middle of a number: (from columns, format).
_BARS = (
    (76, "{desc:<25} [{bar}] {n_fmt:>6}B/{total_fmt}B {rate_fmt:>9} {remaining:>5}"),
    (64, "{desc:<25} [{bar}] {n_fmt:>6}B/{total_fmt}B"),
    (0, "{desc:<25} {percentage:3.0f}%"),
)


# The steps that a bar shows, and that need no line where there are no bars.
_MOVING = ("Downloading", "Pushing", "Loading layer")


def choose_progress(quiet: bool, stream: TextIO, with_status: bool = True) -> Progress:
    """Bars on a terminal, lines elsewhere, nothing with `-q`. The last line (canonical reference or digest) is the caller's.

    Not `with_status`: the caller says what became of several pulls together.
    """
    if quiet:
        return Silent()
    return (Bars if stream.isatty() else Lines)(stream, with_status)


def choose_push_progress(quiet: bool, stream: TextIO) -> PushProgress:
    """As `choose_progress`, for a push."""
    if quiet:
        return SilentPush()
    return PushLines((Bars if stream.isatty() else Lines)(stream))


class Lines:
    """What Docker writes into a pipe: one line a step."""

    def __init__(self, stream: TextIO, with_status: bool = True) -> None:
        self._stream = stream
        self._with_status = with_status
        self._lock = threading.Lock()

    def start(self, reference: Reference) -> None:
        self.line(_headline(reference))

    def layer(self, short_id: str, total: int) -> LayerProgress:
        return _LayerLines(self, short_id)

    def close(self) -> None:
        pass

    def finish(self, digest: str, status: str) -> None:
        self.line(f"Digest: {digest}")
        if self._with_status:
            self.line(f"Status: {status}")

    def line(self, text: str) -> None:
        with self._lock:
            print(text, file=self._stream, flush=True)


class _LayerLines:
    def __init__(self, lines: Lines, short_id: str) -> None:
        self._lines = lines
        self._short_id = short_id

    def update(self, count: int) -> None:
        pass

    def status(self, text: str) -> None:
        if text not in _MOVING:
            self._lines.line(f"{self._short_id}: {text}")


class Bars(Lines):
    """What a terminal shows: the same lines, and while a layer is coming its bar in place of its line."""

    def __init__(self, stream: TextIO, with_status: bool = True) -> None:
        super().__init__(stream, with_status)
        self._layers: list[_LayerBar] = []
        self._fetched: list[int] = []
        self._shared: list[int] = []

    def layer(self, short_id: str, total: int) -> LayerProgress:
        bar = _LayerBar(self._stream, short_id, total, len(self._layers))
        self._layers.append(bar)
        return bar

    def close(self) -> None:
        for layer in self._layers:
            layer.close()
            (self._shared if layer.text == "Already exists" else self._fetched).append(layer.total)
        self._layers.clear()

    def finish(self, digest: str, status: str) -> None:
        """Docker's lines, after one that tells what there was to fetch, by the layers' sizes as they are sent."""
        if self._shared:
            fetched = f"{len(self._fetched)} downloaded ({human_size(sum(self._fetched))}), " if self._fetched else ""
            self.line(
                f"Layers: {fetched}{len(self._shared)} shared with other images ({human_size(sum(self._shared))})"
            )
        super().finish(digest, status)


class _LayerBar:
    def __init__(self, stream: TextIO, short_id: str, total: int, position: int) -> None:
        self._stream = stream
        self._short_id = short_id
        self.total = total
        self.text = ""
        self._bar = tqdm(
            total=total,
            desc=f"{short_id}: Waiting",
            bar_format="{desc}",
            ascii=" >=",
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
            position=position,
            file=stream,
        )

    def update(self, count: int) -> None:
        self._bar.update(count)

    def status(self, text: str) -> None:
        self.text = text
        self._bar.bar_format = self._format() if text in _MOVING else "{desc}"
        self._bar.set_description_str(f"{self._short_id}: {text}")

    def close(self) -> None:
        self._bar.close()

    def _format(self) -> str:
        columns = os.get_terminal_size(self._stream.fileno()).columns
        return next(line for least, line in _BARS if columns >= least)


class PushLines:
    """A push: its layers look like those of a pull, what is around them does not."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def start(self, repository: str) -> None:
        self._lines.line(f"The push refers to repository [{repository}]")

    def layer(self, short_id: str, total: int) -> LayerProgress:
        return self._lines.layer(short_id, total)

    def finish(self, tag: str, digest: str, size: int) -> None:
        self._lines.close()
        self._lines.line(f"{tag}: digest: {digest} size: {size}")

    def close(self) -> None:
        self._lines.close()


def _headline(reference: Reference) -> str:
    what = reference.canonical() if reference.digest else reference.tag
    return f"{what}: Pulling from {reference.path}"
