"""Connections for the transport: `requests`' adapter with TLS of our own making, and an end to answers that never begin.

`requests` knows either the system's certificate authorities or a bundle in their place; docker and containerd add to them. And
its read time-out starts again with each byte, so that a server which sends its headers byte by byte could hold a pull for
days: an answer must have begun, headers and all, after HEAD_TIMEOUT seconds.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from typing import Any

import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions
import urllib3.util.ssl_

from engine.errors import UsageError
from engine.images.certs import Tls

HEAD_TIMEOUT = 90.0


class Adapter(requests.adapters.HTTPAdapter):
    """An adapter whose TLS is as the context has it."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_maxsize=16)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._context, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def cert_verify(self, *args: Any) -> None:
        """Nothing: it would add the authorities that `requests` brings along."""


class _Timed:
    """Mixed into a connection: shuts its socket down where the head of an answer takes too long."""

    sock: Any

    def getresponse(self) -> Any:
        # The socket is taken now: later this connection may have another one.
        sock, late = self.sock, threading.Event()
        timer = threading.Timer(HEAD_TIMEOUT, _give_up, (sock, late))
        timer.daemon = True
        timer.start()
        try:
            answer = super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
        if late.is_set():
            # http.client takes headers that are cut off for all of them.
            raise TimeoutError("the answer did not begin in time")
        return answer


def _give_up(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class _HttpConnection(_Timed, urllib3.connection.HTTPConnection):
    pass


class _HttpsConnection(_Timed, urllib3.connection.HTTPSConnection):
    pass


class _HttpPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


def ssl_context(authorities: str | None, tls: Tls) -> ssl.SSLContext:
    """A client's context that trusts the bundle `authorities` (None: what Python knows) and what `tls` has.

    Raises UsageError where a file is not what it should be.
    """
    context = urllib3.util.ssl_.create_urllib3_context()
    name = authorities or ""
    try:
        if authorities:
            context.load_verify_locations(authorities)
        else:
            context.load_default_certs()
        for name in tls.authorities:
            context.load_verify_locations(name)
        for name, key in tls.clients:
            # Without a password, OpenSSL would ask whoever sits at the terminal for an encrypted key's.
            context.load_cert_chain(name, key or None, password=lambda: "")
    except (OSError, ssl.SSLError) as e:
        reason = os.strerror(e.errno) if e.errno and not isinstance(e, ssl.SSLError) else "no usable PEM file"
        raise UsageError(f"cannot use the certificates in {name}: {reason}") from e
    if not tls.verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
