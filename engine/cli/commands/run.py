"""`mini run` and `mini create`: options become CreateOptions, an image that is not there is pulled first."""

from __future__ import annotations

import os
import sys

from engine.cli.commands.pull import ensure
from engine.containers import limits, usecases
from engine.containers.options import CreateOptions
from engine.containers.terminal import DETACH_KEYS, Streams, parse_detach_keys
from engine.context import Context
from engine.errors import UsageError
from engine.host import require_container_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DETACHED = 0


def main(
    context: Context,
    attach: list[str],
    detach: bool,
    detach_keys: str | None,
    sig_proxy: bool,
    wait: bool,
    **asked: Any,
) -> int:
    if wait and not detach:
        raise UsageError("conflicting options: --wait needs --detach")
    if attach and detach:
        raise UsageError("conflicting options: cannot specify both --attach and --detach")
    keys = parse_detach_keys(detach_keys) if detach_keys is not None else DETACH_KEYS
    options = _options(context, asked)
    options.detach = detach
    if attach:
        options.interactive = options.interactive and "stdin" in attach
    container_id, code = usecases.run(context, options, _streams(attach), sig_proxy=sig_proxy, detach_keys=keys)
    if wait:
        from engine.system.boot import wait_ready

        wait_ready(context, container_id)
    if detach:
        print(container_id)
    return DETACHED if code is None else code


def create(context: Context, attach: list[str], **asked: Any) -> None:
    print(usecases.create(context, _options(context, asked)))


def _options(context: Context, asked: dict[str, Any]) -> CreateOptions:
    """What was asked for, with its image in the store. Checks what needs no image first: nothing is pulled in vain."""
    require_container_host()
    policy, quiet = asked.pop("pull"), asked.pop("quiet")
    for name in ("pid", "ipc", "uts", "userns", "cgroupns", "log_driver"):
        asked[name] = asked[name] or ""
    options = CreateOptions(**asked)
    limits.check(options)
    if options.publish or options.expose:
        _check_ports(options)
    ensure(context, options.image, policy, options.platform, quiet)
    return options


def _check_ports(options: CreateOptions) -> None:
    from engine.containers import netoptions, portoptions

    portoptions.check(options)
    if options.publish and netoptions.mode(options) == "host":
        print(f"WARNING: {portoptions.DISCARDED}", file=sys.stderr)


def _streams(attach: list[str]) -> Streams:
    """The terminal's, or with `--attach` only those named; what is not attached goes nowhere."""
    if not attach:
        return Streams()
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    fds = (fd if name in attach else nowhere for fd, name in enumerate(("stdin", "stdout", "stderr")))
    return Streams(*fds)
