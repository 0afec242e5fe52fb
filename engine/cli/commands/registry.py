"""`mini registry serve`."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from engine.context import Context
from engine.errors import Conflict, UsageError
from engine.files import FileLock, make_dirs
from engine.images.server import RegistryServer

# How long requests under way may take to come to their end once a signal has come.
PATIENCE = 10.0


def serve(context: Context, root: str | None, host: str, port: int, verbose: bool) -> None:
    """Serves until SIGINT or SIGTERM. What the server before this one left unfinished is swept up first."""
    root = os.path.abspath(root or context.paths.registry)
    if not 0 <= port <= 65535:
        raise UsageError(f"invalid port: {port}")
    signals = (signal.SIGINT, signal.SIGTERM)
    # Before any thread is made, so that none of them gets the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    make_dirs(root, 0o711)
    with _alone(root):
        server = _listen(root, host, port, verbose or context.debug)
        server.content.sweep()
        with server:
            print(f"serving {root} on {server.url}", flush=True)
            if not _is_loopback(host):
                print("mini: whoever reaches this address may pull, push and delete", file=sys.stderr, flush=True)
            signal.sigwait(signals)
            server.stop(PATIENCE)


@contextmanager
def _alone(root: str) -> Iterator[None]:
    """Holds the lock on the directory: a second server there would sweep up what is being pushed through the first."""
    lock = FileLock(f"{root}/lock", wait=False)
    try:
        lock.__enter__()
    except Conflict:
        raise Conflict(f"another server serves {root}", "stop it, or choose another directory with --root") from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _listen(root: str, host: str, port: int, verbose: bool) -> RegistryServer:
    try:
        return RegistryServer(root, host, port, _tell if verbose else None)
    except OSError as e:
        raise UsageError(
            f"cannot listen on {host}:{port}: {(e.strerror or str(e)).lower()}",
            "another program has it: choose another port with --port" if e.errno == errno.EADDRINUSE else None,
        ) from e


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
