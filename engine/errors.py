"""Every error that mini raises on purpose, in one tree.

    MiniError                     anything that a user should read as one message
    ├─ UsageError                 a value on the command line is wrong
    ├─ NotFound                   no such container, image, volume, network
    ├─ Conflict                   a name is taken, an object is in use or in the wrong state
    ├─ Unsupported                this host cannot: not Linux, not root, no kernel feature
    ├─ InvalidReference           an image reference that cannot be read
    ├─ RegistryError              a registry's answer, or none
    │   ├─ RegistryUnreachable    no connection, time-out, TLS
    │   ├─ Unauthorized           credentials are missing or refused
    │   ├─ ManifestUnknown        the registry has no such image or tag
    │   └─ PlatformMismatch       the image exists, but not for this platform
    ├─ IntegrityError             bytes differ from their digest or size
    ├─ LayerError                 a layer that is malformed or hostile
    ├─ ArchiveError               an image archive that is malformed or hostile
    ├─ StoreError                 the data root cannot be read or written
    └─ RuntimeFault               creating or running a container failed at a step
        ├─ CommandNotFound        exit code 127, as a shell's
        └─ CommandNotExecutable   exit code 126, as a shell's

Libraries raise these; `cli/` alone prints them. A message is lower case without a full stop and says what, which and why;
`hint` says what to do next and is printed on a line of its own.
"""

from __future__ import annotations


class MiniError(Exception):
    """Base of the tree. `exit_code` None means: the command decides (`run` and `create` 125, others 1)."""

    exit_code: int | None = None

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MiniError):
    """A value given on the command line (or in a file it names) cannot be used."""


class NotFound(MiniError):
    """No object of that name. The message is Docker's: `No such container: x`."""


class Conflict(MiniError):
    """The object exists already, is in use, or is in a state that does not allow this."""


class Interrupted(MiniError):
    """Who waits insists on leaving; what is waited for goes on."""

    exit_code = 1


class Unsupported(MiniError):
    """This host, user or kernel cannot do it; the hint names the ways to get it."""


class InvalidReference(MiniError):
    """Not an image reference in the sense of the distribution project's grammar."""


class RegistryError(MiniError):
    """A registry answered with something other than what was asked for."""


class RegistryUnreachable(RegistryError):
    """No answer: name not resolved, connection refused, time-out, TLS failure."""


class Unauthorized(RegistryError):
    """401 or 403 after everything that is known was tried."""


class ManifestUnknown(RegistryError):
    """404 for a manifest: no such repository, tag or digest."""


class PlatformMismatch(RegistryError):
    """An index without a manifest for the platform wanted."""


class IntegrityError(MiniError):
    """Content that does not have the digest or the size that its descriptor declares."""


class LayerError(MiniError):
    """A layer tar that is malformed, beyond the limits, or tries to escape."""


class ArchiveError(MiniError):
    """An image archive (`load`) that is neither layout, lacks what it names, or names what lies outside of it."""


class StoreError(MiniError):
    """The data root is unreadable, unwritable, full or damaged."""


class RuntimeFault(MiniError):
    """A step of making or running a container failed.

    `step` is a short name (`mount`, `pivot_root`, `exec`), `errno` the kernel's number or 0, `path` what it was about.
    """

    def __init__(
        self, step: str, message: str, errno: int = 0, path: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint)
        self.step = step
        self.errno = errno
        self.path = path


class CommandNotFound(RuntimeFault):
    """The program does not exist in the container."""

    exit_code = 127


class CommandNotExecutable(RuntimeFault):
    """The program exists, but the kernel will not execute it."""

    exit_code = 126
