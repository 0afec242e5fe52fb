"""What a pull or push tells of itself while it runs. The command line draws it; without a listener nobody is told."""

from __future__ import annotations

from typing import Protocol

from engine.images.reference import Reference


class LayerProgress(Protocol):
    """One layer. Called from the thread that fetches it."""

    def update(self, count: int) -> None:
        """`count` more compressed bytes are here."""

    def status(self, text: str) -> None:
        """A step, in Docker's words: Pulling fs layer, Downloading, Download complete, Pull complete; or Already exists."""


class Progress(Protocol):
    """One pull. Called from one thread, except for the layers."""

    def start(self, reference: Reference) -> None: ...

    def layer(self, short_id: str, total: int) -> LayerProgress:
        """Announces a layer of `total` compressed bytes; all layers are announced before the first byte comes."""

    def close(self) -> None:
        """No layer will tell anything any more: the pull is complete, or it failed."""

    def finish(self, digest: str, status: str) -> None:
        """The pull is complete: the digest of what the reference points to, and the sentence that Docker ends with."""


class Silent:
    """A listener that does not listen."""

    def start(self, reference: Reference) -> None:
        pass

    def layer(self, short_id: str, total: int) -> LayerProgress:
        return _SilentLayer()

    def close(self) -> None:
        pass

    def finish(self, digest: str, status: str) -> None:
        pass


class _SilentLayer:
    def update(self, count: int) -> None:
        pass

    def status(self, text: str) -> None:
        pass


class PushProgress(Protocol):
    """One push, of one image or of several after each other. Called from one thread, except for the layers."""

    def start(self, repository: str) -> None: ...

    def layer(self, short_id: str, total: int) -> LayerProgress:
        """Announces a layer of `total` uncompressed bytes, which `update` counts. Preparing, Waiting, Pushing, then
        Pushed, Layer already exists, Mounted from x, or Skipped foreign layer."""

    def finish(self, tag: str, digest: str, size: int) -> None:
        """An image is pushed: no layer of it will tell anything any more. `size` is its manifest's."""

    def close(self) -> None:
        """The push is complete, or it failed."""


class SilentPush:
    """A listener that does not listen."""

    def start(self, repository: str) -> None:
        pass

    def layer(self, short_id: str, total: int) -> LayerProgress:
        return _SilentLayer()

    def finish(self, tag: str, digest: str, size: int) -> None:
        pass

    def close(self) -> None:
        pass
