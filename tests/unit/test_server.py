"""The distribution server: the specification's requests, and skopeo as a client in both directions."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from engine.images.server import RegistryServer
from tests.support.push import digest_of, push_blob, push_image, push_index, push_manifest

DATA = bytes(range(256)) * 4
DIGEST = digest_of(DATA)
NOWHERE = "sha256:" + "0" * 64


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with RegistryServer(str(tmp_path / "registry")) as running:
        yield running


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def code_of(answer: requests.Response) -> str:
    return str(answer.json()["errors"][0]["code"])


def test_the_api_is_there(server: RegistryServer, http: requests.Session) -> None:
    answer = http.get(f"{server.url}/v2/")
    assert (answer.status_code, answer.headers["Docker-Distribution-Api-Version"]) == (200, "registry/2.0")


def test_a_pushed_image_is_served_by_tag_and_digest(server: RegistryServer, http: requests.Session) -> None:
    pushed = push_image(server.url, "a/b", "1", [b"layer"])
    for name in ("1", pushed["manifest_digest"]):
        got = http.get(f"{server.url}/v2/a/b/manifests/{name}")
        assert got.headers["Docker-Content-Digest"] == digest_of(got.content) == pushed["manifest_digest"]
        assert got.headers["Content-Type"] == pushed["manifest"]["mediaType"]
        head = http.head(f"{server.url}/v2/a/b/manifests/{name}")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(got.content))


def test_an_index_needs_its_manifests(server: RegistryServer, http: requests.Session) -> None:
    pushed = push_image(server.url, "a", "1", [b"layer"])
    push_index(server.url, "a", "multi", [("linux/amd64", pushed)])
    document = http.get(f"{server.url}/v2/a/manifests/multi").content
    answer = http.put(
        f"{server.url}/v2/b/manifests/multi",
        data=document,
        headers={"Content-Type": "application/vnd.oci.image.index.v1+json"},
    )
    assert (answer.status_code, code_of(answer)) == (404, "MANIFEST_BLOB_UNKNOWN")


def test_tags_and_catalog_with_pages(server: RegistryServer, http: requests.Session) -> None:
    pushed = push_image(server.url, "x/y", "b", [b"layer"])
    for tag in ("a", "c", "d"):
        push_manifest(server.url, "x/y", tag, pushed["manifest"])
    push_image(server.url, "a", "1", [b"layer"])
    assert http.get(f"{server.url}/v2/x/y/tags/list").json() == {"name": "x/y", "tags": ["a", "b", "c", "d"]}
    first = http.get(f"{server.url}/v2/x/y/tags/list?n=3")
    assert first.json()["tags"] == ["a", "b", "c"]
    assert http.get(server.url + first.links["next"]["url"]).json()["tags"] == ["d"]
    assert http.get(f"{server.url}/v2/x/y/tags/list?n=0").json()["tags"] == []
    assert http.get(f"{server.url}/v2/_catalog").json() == {"repositories": ["a", "x/y"]}
    assert code_of(http.get(f"{server.url}/v2/nosuch/tags/list")) == "NAME_UNKNOWN"


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        (None, 200, 0, 1023), ("bytes=0-", 200, 0, 1023), ("bytes=10-", 206, 10, 1023), ("bytes=10-19", 206, 10, 19),
        ("bytes=1000-5000", 206, 1000, 1023), ("bytes=1024-", 416, 0, 0), ("bytes=9-3", 416, 0, 0), ("bytes=-5", 200, 0, 1023),
        ("bytes=0-1,3-4", 200, 0, 1023), ("lines=1-2", 200, 0, 1023),
    ],
)  # fmt: skip
def test_ranges(
    server: RegistryServer, http: requests.Session, asked: str | None, status: int, first: int, last: int
) -> None:
    push_blob(server.url, "a", DATA)
    answer = http.get(f"{server.url}/v2/a/blobs/{DIGEST}", headers={"Range": asked} if asked else {})
    assert answer.status_code == status
    if status != 416:
        assert answer.content == DATA[first : last + 1]
    if status == 206:
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/1024"


def test_a_chunked_upload_in_steps(server: RegistryServer, http: requests.Session) -> None:
    start = http.post(f"{server.url}/v2/a/blobs/uploads/")
    place = server.url + start.headers["Location"]
    assert http.patch(place, data=iter([DATA[:100], DATA[100:500]])).headers["Range"] == "0-499"
    wrong = http.patch(place, data=DATA[600:], headers={"Content-Range": "600-1023"})
    assert wrong.status_code == 416
    assert http.get(place).headers["Range"] == "0-499"
    assert http.patch(place, data=DATA[500:1000], headers={"Content-Range": "500-999"}).status_code == 202
    done = http.put(f"{place}?digest={DIGEST}", data=DATA[1000:])
    assert (done.status_code, done.headers["Docker-Content-Digest"]) == (201, DIGEST)
    assert http.get(server.url + done.headers["Location"]).content == DATA
    assert http.get(place).status_code == 404


def test_a_monolithic_upload_and_a_mount(server: RegistryServer, http: requests.Session) -> None:
    assert http.post(f"{server.url}/v2/a/blobs/uploads/?digest={DIGEST}", data=DATA).status_code == 201
    assert http.head(f"{server.url}/v2/b/blobs/{DIGEST}").status_code == 404
    assert http.post(f"{server.url}/v2/b/blobs/uploads/?mount={DIGEST}&from=a").status_code == 201
    assert http.get(f"{server.url}/v2/b/blobs/{DIGEST}").content == DATA
    assert http.post(f"{server.url}/v2/b/blobs/uploads/?mount={NOWHERE}&from=a").status_code == 202
    assert http.post(f"{server.url}/v2/c/blobs/uploads/?mount={DIGEST}&from=d").status_code == 202
    assert http.post(f"{server.url}/v2/c/blobs/uploads/?mount={DIGEST}").status_code == 201, "from wherever (OCI 1.1)"


@pytest.mark.parametrize("claimed", [NOWHERE, "sha256:../../../../tmp/x", "sha512:" + "0" * 128, "x", ""])
def test_content_that_does_not_have_its_digest_is_not_kept(
    server: RegistryServer, http: requests.Session, tmp_path: Path, claimed: str
) -> None:
    answer = http.post(f"{server.url}/v2/a/blobs/uploads/")
    answer = http.put(server.url + answer.headers["Location"], params={"digest": claimed}, data=DATA)
    assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")
    kept = [f for folder, _, files in os.walk(tmp_path) for f in files if not folder.endswith("uploads")]
    assert kept == []


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../etc/passwd/manifests/x", "/v2/a/../b/tags/list", "/v2/_links/tags/list", "/v2/a/_manifests/tags/list",
        "/v2/A/tags/list",
        "/v2/a/blobs/sha256:..%2f..%2fx", "/v2/a/blobs/uploads/../../x", "/v2/a/manifests/..", "/v2/a//b/tags/list",
        "/v2/a%00/tags/list",
        "/v2/a/blobs/uploads/%2e%2e", "/v2/" + "a/" * 300 + "tags/list",
    ],
)  # fmt: skip
def test_no_request_leaves_the_directory(server: RegistryServer, path: str) -> None:
    """Sent by hand: client libraries tidy such paths up."""
    with socket.create_connection(server.address.split(":")) as connection:  # type: ignore[arg-type]
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        status = connection.makefile("rb").readline().split()[1]
    assert status in (b"400", b"404")


def test_deletion(server: RegistryServer, http: requests.Session) -> None:
    pushed = push_image(server.url, "a", "1", [b"layer"])
    push_manifest(server.url, "a", "2", pushed["manifest"])
    assert http.delete(f"{server.url}/v2/a/manifests/1").status_code == 202
    assert http.get(f"{server.url}/v2/a/manifests/2").status_code == 200
    assert http.delete(f"{server.url}/v2/a/manifests/{pushed['manifest_digest']}").status_code == 202
    assert code_of(http.get(f"{server.url}/v2/a/manifests/2")) == "MANIFEST_UNKNOWN"
    layer = pushed["manifest"]["layers"][0]["digest"]
    assert http.delete(f"{server.url}/v2/a/blobs/{layer}").status_code == 202
    assert code_of(http.get(f"{server.url}/v2/a/blobs/{layer}")) == "BLOB_UNKNOWN"
    assert http.delete(f"{server.url}/v2/a/blobs/{layer}").status_code == 404


def test_what_is_deleted_everywhere_goes_from_the_disk(server: RegistryServer, http: requests.Session) -> None:
    for name in ("a", "b"):
        pushed = push_image(server.url, name, "1", [b"layer"])
    layer = pushed["manifest"]["layers"][0]["digest"]
    http.delete(f"{server.url}/v2/a/manifests/{pushed['manifest_digest']}")
    http.delete(f"{server.url}/v2/a/blobs/{layer}")
    server.content.sweep()
    assert http.get(f"{server.url}/v2/b/blobs/{layer}").status_code == 200
    assert http.get(f"{server.url}/v2/b/manifests/1").status_code == 200
    http.delete(f"{server.url}/v2/b/blobs/{layer}")
    server.content.sweep()
    assert not os.path.exists(server.content.blob(layer))
    assert os.path.exists(server.content.blob(pushed["config_digest"]))


def test_an_upload_that_was_given_up_is_swept_and_one_under_way_is_not(
    server: RegistryServer, http: requests.Session
) -> None:
    old, new = (http.post(f"{server.url}/v2/a/blobs/uploads/").headers["Location"] for _ in range(2))
    http.patch(server.url + old, data=DATA)
    os.utime(server.content.uploads.path(old.rpartition("/")[2]), (0, 0))
    server.content.sweep()
    assert http.get(server.url + old).status_code == 404
    assert http.get(server.url + new).status_code == 204


def test_an_upload_that_was_cut_off_keeps_what_came(server: RegistryServer, http: requests.Session) -> None:
    place = http.post(f"{server.url}/v2/a/blobs/uploads/").headers["Location"]
    with socket.create_connection(server.address.split(":")) as connection:  # type: ignore[arg-type]
        connection.sendall(f"PATCH {place} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(b"64\r\n" + DATA[:100] + b"\r\n64\r\n" + DATA[100:150])
    deadline = time.monotonic() + 60
    while (answer := http.get(server.url + place)).headers["Range"] != "0-149" and time.monotonic() < deadline:
        time.sleep(0.01)
    reached = int(answer.headers["Range"].partition("-")[2]) + 1
    assert reached == 150
    http.patch(server.url + place, data=DATA[reached:])
    assert http.put(f"{server.url}{place}?digest={DIGEST}").status_code == 201


def test_an_upload_begun_under_the_server_before_is_finished_under_this_one(
    tmp_path: Path, http: requests.Session
) -> None:
    with RegistryServer(str(tmp_path)) as first:
        place = http.post(f"{first.url}/v2/a/blobs/uploads/").headers["Location"]
        http.patch(first.url + place, data=DATA[:500])
    with RegistryServer(str(tmp_path)) as second:
        assert http.get(second.url + place).headers["Range"] == "0-499"
        assert http.put(f"{second.url}{place}?digest={DIGEST}", data=DATA[500:]).status_code == 201
        assert http.get(f"{second.url}/v2/a/blobs/{DIGEST}").content == DATA


def test_the_latest_request_writes_to_an_upload_and_cuts_off_the_one_before(
    server: RegistryServer, http: requests.Session
) -> None:
    """The one before may hang on a connection that broke: a client that resumes must not wait for its time-out."""
    place = http.post(f"{server.url}/v2/a/blobs/uploads/").headers["Location"]
    with socket.create_connection(server.address.split(":")) as connection:  # type: ignore[arg-type]
        connection.sendall(f"PATCH {place} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(b"64\r\n" + DATA[:100] + b"\r\n")
        deadline = time.monotonic() + 60
        while server.content.uploads.size(place.rpartition("/")[2]) < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert http.patch(server.url + place, data=DATA[100:500]).headers["Range"] == "0-499"
        connection.sendall(b"64\r\n" + DATA[:100] + b"\r\n0\r\n\r\n")
        assert connection.makefile("rb").read() == b""
    assert http.put(f"{server.url}{place}?digest={DIGEST}", data=DATA[500:]).status_code == 201


def test_referrers(server: RegistryServer, http: requests.Session) -> None:
    """A signature names its image as its subject (OCI 1.1); it is listed with it, and no more once it is deleted."""
    image = push_image(server.url, "a", "1", [b"layer"])
    config = {"mediaType": "application/vnd.oci.empty.v1+json", **push_blob(server.url, "a", b"{}")}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.signature",
        "config": config,
        "layers": [],
        "subject": image["descriptor"],
        "annotations": {"by": "me"},
    }
    answer = http.put(
        f"{server.url}/v2/a/manifests/{digest_of(json.dumps(manifest).encode())}",
        data=json.dumps(manifest),
        headers={"Content-Type": manifest["mediaType"]},
    )
    assert answer.headers["OCI-Subject"] == image["manifest_digest"]
    place = f"{server.url}/v2/a/referrers/{image['manifest_digest']}"
    listed = http.get(place)
    assert listed.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
    (found,) = listed.json()["manifests"]
    assert found["artifactType"] == manifest["artifactType"] and found["annotations"] == {"by": "me"}
    assert http.get(f"{server.url}/v2/a/manifests/{found['digest']}").json() == manifest
    filtered = http.get(place, params={"artifactType": "other"})
    assert (filtered.json()["manifests"], filtered.headers["OCI-Filters-Applied"]) == ([], "artifactType")
    assert http.get(f"{server.url}/v2/a/referrers/{NOWHERE}").json()["manifests"] == []
    assert http.get(f"{server.url}/v2/a/referrers/latest").status_code == 400
    http.delete(f"{server.url}/v2/a/manifests/{found['digest']}")
    assert http.get(place).json()["manifests"] == []


def test_a_line_for_each_request(tmp_path: Path, http: requests.Session) -> None:
    told: list[str] = []
    with RegistryServer(str(tmp_path), on_request=told.append) as server:
        push_blob(server.url, "a", DATA)
        talk(server, b"GET /v2/\x1b[31m HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        server.stop(5)
    assert [re.sub("[0-9a-f]{32,}", "ID", line.rpartition(" ")[0]) for line in told] == [
        '127.0.0.1 "HEAD /v2/a/blobs/sha256:ID HTTP/1.1" 404',
        '127.0.0.1 "POST /v2/a/blobs/uploads/ HTTP/1.1" 202',
        '127.0.0.1 "PUT /v2/a/blobs/uploads/ID?digest=sha256:ID HTTP/1.1" 201',
        '127.0.0.1 "GET /v2/?[31m HTTP/1.1" 404',
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{}", "application/vnd.oci.image.manifest.v1+json", "MANIFEST_INVALID"),
        (b"not json", "application/vnd.oci.image.manifest.v1+json", "MANIFEST_INVALID"),
        (b"{}", "text/plain", "MANIFEST_INVALID"),
    ],
)
def test_what_is_not_a_manifest_is_refused(
    server: RegistryServer, http: requests.Session, body: bytes, content_type: str, code: str
) -> None:
    answer = http.put(f"{server.url}/v2/a/manifests/1", data=body, headers={"Content-Type": content_type})
    assert (answer.status_code, code_of(answer)) == (400, code)


def talk(server: RegistryServer, request: bytes) -> bytes:
    """All that the server says to these bytes until it hangs up."""
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request)
        return connection.makefile("rb").read()


def test_a_body_that_was_not_read_is_not_the_next_request(server: RegistryServer) -> None:
    smuggled = b"DELETE /v2/a/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n"
    said = talk(
        server, b"PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(smuggled), smuggled)
    )
    assert said.startswith(b"HTTP/1.1 400") and said.count(b"HTTP/1.1 ") == 1


def test_no_push_leaves_the_directory(server: RegistryServer, tmp_path: Path) -> None:
    push_blob(server.url, "a", DATA)
    for name in ("../../escaped", "a/../../../escaped", "%2e%2e/escaped", "/escaped"):
        for place in (
            f"blobs/uploads/?digest={DIGEST}",
            f"blobs/uploads/?mount={DIGEST}&from=a",
            f"blobs/uploads/?mount={DIGEST}&from=../a",
        ):
            head = f"POST /v2/{name}/{place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(DATA)}\r\n\r\n"
            assert talk(server, head.encode() + DATA).split()[1] == b"400"
    assert os.listdir(tmp_path) == ["registry"]
    assert os.listdir(tmp_path / "registry" / "repositories") == ["a"]


def test_a_malformed_chunked_body_is_an_answer_and_not_a_crash(server: RegistryServer, http: requests.Session) -> None:
    place = http.post(f"{server.url}/v2/a/blobs/uploads/").headers["Location"]
    with socket.create_connection(server.address.split(":")) as connection:  # type: ignore[arg-type]
        connection.sendall(f"PATCH {place} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode())
        assert b" 400 " in connection.makefile("rb").readline()
    assert http.get(server.url + place).status_code == 204


def test_pushes_side_by_side(server: RegistryServer, http: requests.Session) -> None:
    layers = [bytes([n]) * 50_000 for n in range(4)]
    threads = [threading.Thread(target=push_image, args=(server.url, "same/name", f"t{n}", layers)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert http.get(f"{server.url}/v2/same/name/tags/list").json()["tags"] == [f"t{n}" for n in range(6)]


@pytest.mark.requires("program:skopeo")
def test_skopeo_copies_an_index_in_and_out(server: RegistryServer, tmp_path: Path) -> None:
    """The same digests after a way through skopeo, to another registry of ours, and from a directory."""
    amd64 = push_image(server.url, "a/b", None, [b"one", b"two"], platform="linux/amd64")
    arm64 = push_image(server.url, "a/b", None, [b"one"], platform="linux/arm64", media="docker", compression="none")
    index = push_index(server.url, "a/b", "multi", [("linux/amd64", amd64), ("linux/arm64", arm64)])

    def copy(source: str, target: str) -> None:
        options = ["--all", "--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"]
        command = ["skopeo", "copy", "-q", "--insecure-policy", *options, source, target]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    with RegistryServer(str(tmp_path / "second")) as second:
        copy(f"docker://{server.address}/a/b:multi", f"dir:{tmp_path}/dir")
        copy(f"dir:{tmp_path}/dir", f"docker://{second.address}/c:back")
        copy(f"docker://{second.address}/c:back", f"docker://{server.address}/again:x")
        for url in (f"{second.url}/v2/c/manifests/back", f"{server.url}/v2/again/manifests/x"):
            assert digest_of(requests.get(url).content) == index["manifest_digest"]
