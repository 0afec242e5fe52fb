"""A registry on loopback that misbehaves on demand, and keeps a record of what it was asked.

It is written from the specification and shares no code with mini. Images are put into it in memory; `fault` makes the next
answers to matching requests wrong in one particular way; `requests` holds (method, path, headers) in order.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support import push

# An action answers the request in place of the registry and returns True, or changes something and returns False.
Action = Callable[["Handler"], bool]


class FakeRegistry:
    """A context manager. `url` is http://127.0.0.1:PORT, or https://localhost:PORT with `tls` = (certificate, key) files."""

    def __init__(self, tls: tuple[str, str] | None = None) -> None:
        self.content: dict[str, tuple[str, bytes]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.honours_ranges = True
        self._faults: list[tuple[re.Pattern[str], list[Action]]] = []
        self._lock = threading.Lock()
        registry = self

        class Bound(Handler):
            fake = registry

        self._http = Server(("127.0.0.1", 0), Bound)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        port = self._http.server_address[1]
        self.address = f"localhost:{port}" if tls else f"127.0.0.1:{port}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"

    def __enter__(self) -> FakeRegistry:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    # --- content ---------------------------------------------------------------------------------------------------

    def put(self, path: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        self.content[path] = (content_type, data)

    def blob(self, repo: str, data: bytes) -> dict[str, Any]:
        digest = push.digest_of(data)
        self.put(f"/v2/{repo}/blobs/{digest}", data)
        return {"digest": digest, "size": len(data)}

    def manifest(
        self, repo: str, tag: str | None, document: dict[str, Any] | bytes, media_type: str = ""
    ) -> dict[str, Any]:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        media_type = media_type or json.loads(data)["mediaType"]
        digest = push.digest_of(data)
        for name in (digest, tag):
            if name:
                self.put(f"/v2/{repo}/manifests/{name}", data, media_type)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def image(
        self, repo: str, tag: str | None, tars: list[bytes], platform: str | None = None, compression: str = "gzip"
    ) -> dict[str, Any]:
        """An OCI image of these layers; returns its descriptor with `layers` and `config` added."""
        types = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}
        layers = [
            {"mediaType": push.OCI + "layer.v1.tar" + types[compression]}
            | self.blob(repo, push.compress(t, compression))
            for t in tars
        ]
        config = push.make_config([push.digest_of(t) for t in tars], {}, platform or push.default_platform())
        config_blob = {"mediaType": push.OCI + "config.v1+json"} | self.blob(repo, json.dumps(config).encode())
        document = {
            "schemaVersion": 2,
            "mediaType": push.OCI + "manifest.v1+json",
            "config": config_blob,
            "layers": layers,
        }
        return self.manifest(repo, tag, document) | {"layers": layers, "config": config_blob}

    def index(self, repo: str, tag: str | None, entries: list[dict[str, Any]]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": push.OCI + "index.v1+json", "manifests": entries}
        return self.manifest(repo, tag, document)

    # --- misbehaviour ----------------------------------------------------------------------------------------------

    def fault(self, pattern: str, *actions: Action) -> None:
        """The next requests whose `METHOD path` the pattern is found in get these actions, one each; the newest fault first."""
        with self._lock:
            self._faults.append((re.compile(pattern), list(actions)))

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    def next_fault(self, what: str) -> Action | None:
        with self._lock:
            for pattern, actions in reversed(self._faults):
                if actions and pattern.search(what):
                    return actions.pop(0)
        return None

    def asked(self, pattern: str) -> list[dict[str, str]]:
        """The headers of the requests so far whose `METHOD path` the pattern is found in."""
        return [headers for method, path, headers in self.requests if re.search(pattern, f"{method} {path}")]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up, and connections that are reset on purpose, are no news."""


class Handler(BaseHTTPRequestHandler):
    fake: FakeRegistry
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        self.body = self.rfile.read(length)
        self.fake.requests.append((self.command, self.path, {k.title(): v for k, v in self.headers.items()}))
        action = self.fake.next_fault(f"{self.command} {self.path}")
        if action is None or not action(self):
            self.usual()

    do_HEAD = do_POST = do_GET

    def usual(self) -> None:
        """The right answer."""
        if self.path in ("/v2/", "/v2"):
            self.answer(200, b"{}")
            return
        found = self.fake.content.get(self.path)
        if found is None:
            code = "MANIFEST_UNKNOWN" if "/manifests/" in self.path else "BLOB_UNKNOWN"
            error = {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}
            self.answer(404, json.dumps(error).encode(), {"Content-Type": "application/json"})
            return
        content_type, data = found
        headers = {"Content-Type": content_type, "Docker-Content-Digest": push.digest_of(data)}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and self.fake.honours_ranges:
            first = int(start[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[first:], headers)
        else:
            self.answer(200, data, headers)

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reset(self) -> None:
        """RST instead of FIN: SO_LINGER with a time of zero."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Action:
    """Answers with this status."""

    def act(handler: Handler) -> bool:
        handler.answer(code, body, headers)
        return True

    return act


def redirect(url: str, code: int = 307) -> Action:
    return status(code, {"Location": url})


def replace(data: bytes, headers: dict[str, str] | None = None) -> Action:
    """Answers with other bytes than those asked for."""
    return status(200, headers or {"Content-Type": "application/octet-stream"}, data)


def cut(after: int, polite: bool = False) -> Action:
    """The right headers and the first bytes; then the connection is reset, or (polite) closed."""

    def act(handler: Handler) -> bool:
        _, data = handler.fake.content[handler.path]
        start = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        first = int(start[1]) if start else 0
        headers = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if start else {}
        handler.answer(206 if start else 200, data[first : first + after], headers, length=len(data) - first)
        if polite:
            handler.close_connection = True
        else:
            handler.reset()
        return True

    return act


def encode(handler: Handler) -> bool:
    """Compresses the body on the way, though the client asked for identity."""
    content_type, data = handler.fake.content[handler.path]
    handler.answer(200, gzip.compress(data), {"Content-Type": content_type, "Content-Encoding": "gzip"})
    return True


def passing(handler: Handler) -> bool:
    """No fault: the usual answer."""
    return False


def hold(until: threading.Event, after: int = 0) -> Action:
    """Sends the first bytes, then nothing until the event is set, then hangs up."""

    def act(handler: Handler) -> bool:
        _, data = handler.fake.content[handler.path]
        handler.answer(200, data[:after], length=len(data))
        until.wait(20)
        handler.close_connection = True
        return True

    return act
