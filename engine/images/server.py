"""A small distribution server: pull and push over the registry API, kept in one directory (`registry_store`).

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md, all of it: pull, push, discovery (tags, referrers) and
deletion; and Docker's catalog. It has no authentication and no TLS: it is made for loopback, where docker, podman, skopeo
and mini itself speak http.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from engine.errors import MiniError
from engine.images.registry_error import ApiError
from engine.images.registry_store import Content
from engine.oci.image import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX

MAX_MANIFEST = 4 << 20
_COPY = 1 << 20
_IDLE_TIMEOUT = 60.0
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


class RegistryServer:
    """Serves `root` on `host`:`port` (0: any free port) from a thread of its own. A context manager, too.

    `on_request` is told a line for each request, once it is answered. Raises OSError where it cannot listen there.
    """

    def __init__(
        self, root: str, host: str = "127.0.0.1", port: int = 0, on_request: Callable[[str], None] | None = None
    ) -> None:
        self.content = Content(root)
        self._busy = _Busy()

        class Handler(_Handler):
            store = self.content
            busy = self._busy
            told = staticmethod(on_request or _tell_nobody)

        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._http = type("_Bound", (_Server,), {"address_family": family})((host, port), Handler)
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """`host:port`, as in a reference."""
        host, port = self._http.server_address[:2]
        host = host.decode() if isinstance(host, (bytes, bytearray)) else str(host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def start(self) -> RegistryServer:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="registry", daemon=True)
        self._thread.start()
        return self

    def stop(self, patience: float = 0.0) -> None:
        """Ends the server; idempotent. Requests under way have `patience` seconds to come to their end."""
        if self._thread:
            self._http.shutdown()
            self._thread.join()
            self._thread = None
        self._http.server_close()
        self._busy.wait(patience)

    def __enter__(self) -> RegistryServer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A push opens a connection for each layer, and many may push at once.
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Busy:
    """Counts the requests under way."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._count, seconds)


class _Handler(BaseHTTPRequestHandler):
    store: Content
    busy: _Busy
    told: Callable[[str], None]
    protocol_version = "HTTP/1.1"
    server_version = "mini-registry"
    timeout = _IDLE_TIMEOUT
    # Answers are written in several pieces; with Nagle's algorithm each keep-alive request would wait for a delayed ACK.
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def log_message(self, format: str, *args: Any) -> None:
        """`do_GET` tells of a request once it is answered."""

    def do_GET(self) -> None:
        start = time.monotonic()
        self._status = 0
        with self.busy:
            self._serve()
        took = time.monotonic() - start
        self.told(f'{self.client_address[0]} "{_printable(self.requestline)}" {self._status or "-"} {took:.3f}s')

    do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        self._left = 0
        try:
            self._left = self._body_length()
            self._route()
        except ApiError as e:
            self._error(e.status, e.code, str(e))
        except MiniError as e:
            self._error(500, "UNKNOWN", e.message)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except OSError as e:
            self._error(500, "UNKNOWN", os.strerror(e.errno or 0))

    def _route(self) -> None:
        parts = urlsplit(self.path)
        self._query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        path = parts.path
        if path in ("/v2", "/v2/"):
            self._json(200, {})
        elif path == "/v2/_catalog":
            self._page("repositories", self.store.repositories(), {})
        elif path.startswith("/v2/"):
            self._route_repository(path[4:].split("/"))
        else:
            raise ApiError(404, "NOT_FOUND", "no such endpoint")

    def _route_repository(self, parts: list[str]) -> None:
        """NAME/tags/list, NAME/manifests/REF, NAME/blobs/DIGEST, NAME/blobs/uploads/[ID], NAME/referrers/DIGEST; NAME may
        have slashes."""
        method = "GET" if self.command == "HEAD" else self.command
        if parts[-2:] == ["tags", "list"] and method == "GET":
            name = "/".join(parts[:-2])
            self._page("tags", self.store.tags(name), {"name": name})
        elif parts[-2:-1] == ["manifests"]:
            self._call({"GET": self._get_manifest, "PUT": self._put_manifest, "DELETE": self._delete_manifest}, parts)
        elif parts[-3:-1] == ["blobs", "uploads"]:
            del parts[-2]
            upload = {"POST": self._start, "PATCH": self._patch, "PUT": self._put, "GET": self._state}
            self._call({**upload, "DELETE": self._cancel}, parts)
        elif parts[-2:-1] == ["referrers"]:
            self._call({"GET": self._referrers}, parts)
        elif parts[-2:-1] == ["blobs"]:
            self._call({"GET": self._get_blob, "DELETE": self._delete_blob}, parts)
        else:
            raise ApiError(404, "NOT_FOUND", "no such endpoint")

    def _call(self, methods: dict[str, Any], parts: list[str]) -> None:
        handler = methods.get("GET" if self.command == "HEAD" else self.command)
        if handler is None:
            raise ApiError(405, "UNSUPPORTED", f"{self.command} is not supported here")
        name = "/".join(parts[:-2])
        self.store.repository(name)
        handler(name, parts[-1])

    # --- manifests and blobs ---------------------------------------------------------------------------------------

    def _get_manifest(self, name: str, reference: str) -> None:
        digest, media_type, data = self.store.find_manifest(name, reference)
        self._send(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest})

    def _put_manifest(self, name: str, reference: str) -> None:
        if self._left > MAX_MANIFEST:
            raise ApiError(413, "MANIFEST_INVALID", f"a manifest has at most {MAX_MANIFEST} bytes")
        content_type = self.headers.get("Content-Type", "")
        if content_type.partition(";")[0] not in MANIFEST_TYPES + INDEX_TYPES:
            raise ApiError(400, "MANIFEST_INVALID", f"not a type of manifest: {content_type}")
        data = b"".join(self._body())
        digest, subject = self.store.put_manifest(name, reference, data, content_type)
        headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
        self._send(201, b"", headers | ({"OCI-Subject": subject} if subject else {}))

    def _delete_manifest(self, name: str, reference: str) -> None:
        self.store.delete_manifest(name, reference)
        self._send(202, b"")

    def _referrers(self, name: str, digest: str) -> None:
        wanted, headers = self._query.get("artifactType"), {"Content-Type": OCI_INDEX}
        found = self.store.referrers(name, digest)
        if wanted:
            found = [d for d in found if d.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        self._send(200, json.dumps(index).encode(), headers)

    def _get_blob(self, name: str, digest: str) -> None:
        if not self.store.has_blob(name, digest):
            raise ApiError(404, "BLOB_UNKNOWN", "blob unknown to registry")
        with open(self.store.blob(digest), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            first, last = self._range(size)
            whole = (first, last) == (0, size - 1) or not size
            headers = {
                "Content-Type": "application/octet-stream",
                "Docker-Content-Digest": digest,
                "Accept-Ranges": "bytes",
            }
            if not whole:
                headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            length = last - first + 1
            self._head(200 if whole else 206, length, headers)
            if self.command != "HEAD" and length:
                self.wfile.flush()
                self.connection.sendfile(file, first, length)

    def _range(self, size: int) -> tuple[int, int]:
        """(first, last) byte to send. `bytes=FIRST-[LAST]` is served, any other range ignored, as RFC 9110 allows."""
        match = _RANGE.match(self.headers.get("Range", ""))
        if not match:
            return 0, size - 1
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
        if first > last:
            raise ApiError(416, "RANGE_INVALID", f"the blob has {size} bytes")
        return first, last

    def _delete_blob(self, name: str, digest: str) -> None:
        self.store.delete_blob(name, digest)
        self._send(202, b"")

    # --- uploads: POST, then PATCH any number of times, then PUT with the digest ------------------------------------

    def _start(self, name: str, _: str) -> None:
        digest, mount = self._query.get("digest"), self._query.get("mount")
        if mount and self.store.find_blob(mount, self._query.get("from")):
            self.store.link_blob(name, mount)
            self._created(name, mount)
            return
        upload = self.store.uploads.new()
        if digest:
            self._append(upload)
            self.store.finish_upload(name, upload, digest)
            self._created(name, digest)
        else:
            self._progress(202, name, upload)

    def _patch(self, name: str, upload: str) -> None:
        self._append(upload)
        self._progress(202, name, upload)

    def _put(self, name: str, upload: str) -> None:
        self._append(upload)
        digest = self._query.get("digest", "")
        self.store.finish_upload(name, upload, digest)
        self._created(name, digest)

    def _state(self, name: str, upload: str) -> None:
        self._progress(204, name, upload)

    def _cancel(self, name: str, upload: str) -> None:
        self.store.uploads.cancel(upload)
        self._send(204, b"")

    def _append(self, upload: str) -> None:
        first = self.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        self.store.uploads.append(upload, self._body(), int(first) if first.isdigit() else None)

    def _progress(self, status: int, name: str, upload: str) -> None:
        size = self.store.uploads.size(upload)
        location = f"/v2/{name}/blobs/uploads/{upload}"
        headers = {"Location": location, "Range": f"0-{max(0, size - 1)}", "Docker-Upload-UUID": upload}
        self._send(status, b"", headers)

    def _created(self, name: str, digest: str) -> None:
        self._send(201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})

    # --- reading requests, writing answers --------------------------------------------------------------------------

    def _body_length(self) -> int:
        """Bytes of the body, -1 where it is chunked (RFC 9112 7.1), as Docker's pushes are."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return -1
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit():
            self.close_connection = True
            raise ApiError(400, "UNSUPPORTED", "Content-Length is not a number")
        return int(length)

    def _body(self) -> Iterator[bytes]:
        """The body, in pieces. Raises ConnectionError where it is cut off."""
        while self._left:
            if self._left < 0:
                size = self._chunk_size()
                yield from self._read(size)
                self.rfile.readline(64)
                if not size:
                    self._left = 0
            else:
                size, self._left = self._left, 0
                yield from self._read(size)

    def _chunk_size(self) -> int:
        digits = self.rfile.readline(64).partition(b";")[0].strip()
        try:
            return int(digits, 16)
        except ValueError:
            self.close_connection = True
            raise ApiError(400, "BLOB_UPLOAD_INVALID", "the chunked body is malformed") from None

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            data = self.rfile.read(min(size, _COPY))
            if not data:
                raise ConnectionResetError
            size -= len(data)
            yield data

    def _page(self, key: str, items: list[str], more: dict[str, str]) -> None:
        """`n` and `last` page a list; the Link header leads to the next page."""
        last, n = self._query.get("last"), self._query.get("n", "")
        if last is not None:
            items = [i for i in items if i > last]
        headers = {}
        if n == "0":
            items = []
        elif n.isdigit() and len(items) > int(n):
            items = items[: int(n)]
            headers["Link"] = f'<{urlsplit(self.path).path}?n={n}&last={items[-1]}>; rel="next"'
        self._json(200, {**more, key: items}, headers)

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str, message: str) -> None:
        self._json(status, {"errors": [{"code": code, "message": message, "detail": {}}]})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, len(body), headers or {})
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        if self._left:
            # The rest of the body, unread, would be taken for the next request.
            self.close_connection = True
        self._status = status
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _tell_nobody(line: str) -> None:
    pass
