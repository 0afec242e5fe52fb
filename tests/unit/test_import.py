"""import: a root file system's tar as an image of one layer."""

from __future__ import annotations

import gzip
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from engine.context import Context
from engine.errors import LayerError, MiniError, NotFound, RegistryUnreachable, UsageError
from engine.images.import_root import import_root
from engine.images.reference import Reference
from engine.paths import Paths
from engine.storage.images import ImageStore
from tests.support.archives import LAYER, UPPER, digest

WHEN = "2024-01-02T03:04:05.000000006Z"
NAME = Reference.parse("mine:1")


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(Paths(str(tmp_path / "root")), {}, "erofs")


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress], ids=["tar", "gzip", "zstd"]
)
def test_the_layer_is_the_tar(ctx: Context, tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    (tmp_path / "root.tar").write_bytes(pack(LAYER))
    image = import_root(ctx, f"{tmp_path}/root.tar", NAME, WHEN, changes=["CMD sh", "ENV A=1"], platform="linux/arm/v7")
    assert image.diff_ids == [digest(LAYER)]
    assert Path(ctx.paths.layer(digest(LAYER))).read_bytes() == LAYER
    assert ImageStore(ctx.paths).resolve("mine:1").id == image.id
    assert image.config == {
        "architecture": "arm",
        "variant": "v7",
        "os": "linux",
        "comment": "Imported from -",
        "created": WHEN,
        "config": {"Cmd": ["/bin/sh", "-c", "sh"], "Env": ["A=1"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(LAYER)]},
        "history": [{"created": WHEN, "comment": "Imported from -"}],
    }
    assert os.listdir(ctx.paths.downloads) == []


def test_from_a_pipe_without_a_name(ctx: Context) -> None:
    reader, writer = os.pipe()
    os.write(writer, LAYER)
    os.close(writer)
    image = import_root(ctx, reader, None, WHEN, message="by hand")
    os.close(reader)
    assert image.names == []
    assert image.config["history"] == [{"created": WHEN, "comment": "by hand"}]
    assert ImageStore(ctx.paths).resolve(image.short_id).id == image.id


def test_failures_leave_no_image(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"x" * 1000)
    (tmp_path / "cut.tgz").write_bytes(gzip.compress(UPPER)[:-20])
    with pytest.raises(LayerError, match="the tar is damaged"):
        import_root(ctx, f"{tmp_path}/no.tar", NAME, WHEN)
    with pytest.raises(LayerError, match="cut off"):
        import_root(ctx, f"{tmp_path}/cut.tgz", NAME, WHEN)
    with pytest.raises(UsageError, match="no such file"):
        import_root(ctx, f"{tmp_path}/nothing", NAME, WHEN)
    with pytest.raises(UsageError, match="not a valid change command"):
        import_root(ctx, f"{tmp_path}/no.tar", NAME, WHEN, changes=["RUN x"])
    assert ImageStore(ctx.paths).list_() == []
    assert os.listdir(ctx.paths.downloads) == []


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = gzip.compress(LAYER)
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/root.tgz")
                self.end_headers()
                return
            self.send_response(404 if self.path == "/nothing" else 200)
            self.send_header("Content-Length", str(len(body)))
            # what `requests` would take for a reason to decode it
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(body[:50] if self.path == "/cut" else body)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_from_a_url(ctx: Context, server: str) -> None:
    image = import_root(ctx, f"{server}/moved", NAME, WHEN)
    assert image.diff_ids == [digest(LAYER)]
    assert image.config["comment"] == f"Imported from {server}/moved"
    with pytest.raises(NotFound, match="answers 404"):
        import_root(ctx, f"{server}/nothing", NAME, WHEN)
    with pytest.raises(MiniError):
        import_root(ctx, f"{server}/cut", NAME, WHEN)
    with pytest.raises(RegistryUnreachable):
        import_root(ctx, "http://127.0.0.1:1/x", NAME, WHEN)
    assert os.listdir(ctx.paths.downloads) == []
