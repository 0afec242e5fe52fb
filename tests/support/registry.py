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
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.support import push

# An action answers the request in place of the registry and returns True, or changes something and returns False.
Action = Callable[["Handler"], bool]


class FakeRegistry:
    """A context manager. `url` is http://127.0.0.1:PORT, or with `tls` https://localhost:PORT.

    `tls` is (certificate, key) files, or a context.
    """

    def __init__(self, tls: tuple[str, str] | ssl.SSLContext | None = None) -> None:
        self.content: dict[str, tuple[str, bytes]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        # Where pushes are under way, by path: what has arrived.
        self.uploads: dict[str, bytearray] = {}
        self.honours_ranges = True
        self._faults: list[tuple[re.Pattern[str], list[Action]]] = []
        self._lock = threading.Lock()
        registry = self

        class Bound(Handler):
            fake = registry

        self._http = Server(("127.0.0.1", 0), Bound)
        if tls:
            context = tls if isinstance(tls, ssl.SSLContext) else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            if isinstance(tls, tuple):
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
        # An upload's body comes in chunks, and is read by whoever answers.
        self.is_chunked = "Transfer-Encoding" in self.headers
        self.fake.requests.append((self.command, self.path, {k.title(): v for k, v in self.headers.items()}))
        action = self.fake.next_fault(f"{self.command} {self.path}")
        if action is None or not action(self):
            self.usual()

    do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def usual(self) -> None:
        """The right answer."""
        if self.path in ("/v2/", "/v2"):
            self.answer(200, b"{}")
            return
        if "/blobs/uploads/" in self.path:
            self.upload()
            return
        if self.command == "PUT":
            self.put_manifest()
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

    def upload(self) -> None:
        """POST, PATCH, PUT, GET and DELETE of an upload (distribution-spec, "Pushing blobs")."""
        path, _, query = self.path.partition("?")
        repo = path.removeprefix("/v2/").partition("/blobs/uploads/")[0]
        asked = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)
        if self.command == "POST":
            source = f"/v2/{unquote(asked.get('from', ''))}/blobs/{unquote(asked.get('mount', ''))}"
            if source in self.fake.content:
                self.fake.put(f"/v2/{repo}/blobs/{source.rpartition('/')[2]}", self.fake.content[source][1])
                self.answer(201, b"")
                return
            path += str(len(self.fake.requests))
            self.fake.uploads[path] = bytearray()
        if path not in self.fake.uploads:
            self.answer(404, b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "blob upload unknown"}]}')
            return
        arrived = self.fake.uploads[path]
        for chunk in self.chunks():
            arrived += chunk
        digest = unquote(asked.get("digest", ""))
        if self.command == "DELETE":
            del self.fake.uploads[path]
            self.answer(204, b"")
        elif self.command != "PUT":
            place = {"Location": path, "Range": f"0-{max(0, len(arrived) - 1)}"}
            self.answer(204 if self.command == "GET" else 202, b"", place)
        elif push.digest_of(bytes(arrived)) != digest:
            self.answer(400, b'{"errors": [{"code": "DIGEST_INVALID", "message": "digest invalid"}]}')
        else:
            del self.fake.uploads[path]
            self.fake.put(f"/v2/{repo}/blobs/{digest}", bytes(arrived))
            self.answer(201, b"")

    def put_manifest(self) -> None:
        digest = push.digest_of(self.body)
        for name in (self.path.rpartition("/")[2], digest):
            self.fake.put(f"{self.path.rpartition('/')[0]}/{name}", self.body, self.headers["Content-Type"])
        self.answer(201, b"", {"Docker-Content-Digest": digest})

    def chunks(self) -> Iterator[bytes]:
        """The chunked body, as it comes."""
        while self.is_chunked:
            size = int(self.rfile.readline(), 16)
            yield self.rfile.read(size)
            self.rfile.readline()
            self.is_chunked = size > 0

    def reset(self) -> None:
        """RST instead of FIN: SO_LINGER with a time of zero."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def status(code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Action:
    """Answers with this status."""

    def act(handler: Handler) -> bool:
        for _ in handler.chunks():  # or they would be taken for the next request
            pass
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
        until.wait(100)
        handler.close_connection = True
        return True

    return act


def break_upload(after: int) -> Action:
    """Takes this many bytes of an upload; then the connection is reset."""

    def act(handler: Handler) -> bool:
        arrived = handler.fake.uploads[handler.path]
        end = len(arrived) + after
        for chunk in handler.chunks():
            arrived += chunk
            if len(arrived) >= end:
                del arrived[end:]
                break
        handler.reset()
        return True

    return act


def lose_answer(handler: Handler) -> bool:
    """Does what was asked, and hangs up instead of saying so."""
    handler.answer = lambda *ignored: None  # type: ignore[method-assign]
    handler.usual()
    handler.reset()
    return True
