"""`mini registry serve`, `push`, `search`, `manifest inspect`; podman and skopeo as clients of what is served."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.images import Image, Images
from tests.support.midway import stopped_while
from tests.support.podman import Podman
from tests.support.push import digest_of, push_image, push_index
from tests.support.runner import Mini, run_command
from tests.support.serve import Serving

pytestmark = pytest.mark.requires("linux", "root", "netns")


@pytest.fixture
def serving(fresh_mini: Mini, tmp_path: Path) -> Iterator[Serving]:
    running = Serving(fresh_mini, str(tmp_path / "served"), "-v")
    yield running
    running.stop()


@pytest.fixture
def podman() -> Iterator[Podman]:
    found = Podman()
    yield found
    found.close()


def identity(mini: Mini, name: str) -> tuple[str, list[str]]:
    """(image ID, DiffIDs)."""
    (image,) = mini.run("image", "inspect", name).json()
    return image["Id"], image["RootFS"]["Layers"]


def manifest(url: str, repository: str, name: str) -> tuple[str, dict[str, Any]]:
    """(digest, document) that a registry has."""
    with requests.Session() as session:
        session.trust_env = False
        data = session.get(f"{url}/v2/{repository}/manifests/{name}").content
    return digest_of(data), json.loads(data)


def test_a_store_is_shared_with_the_next_machine(fresh_mini: Mini, serving: Serving, image: Image) -> None:
    fresh_mini.run("pull", "-q", image.name)
    before = identity(fresh_mini, image.name)
    name = f"{serving.address}/team/app:1"
    fresh_mini.run("tag", image.name, name)
    pushed = fresh_mini.run("push", name).lines
    digest, document = manifest(serving.url, "team/app", "1")
    assert pushed[0] == f"The push refers to repository [{serving.address}/team/app]"
    assert pushed[-1].startswith(f"1: digest: {digest} size: ")
    assert document["config"]["digest"] == before[0]
    fresh_mini.run("rmi", "-f", before[0])
    assert f"Digest: {digest}" in fresh_mini.run("pull", name).lines
    assert identity(fresh_mini, name) == before
    assert fresh_mini.run("run", "--rm", "--network", "none", name, "echo", "hello").out == "hello"


def test_a_push_to_the_reference_implementation(fresh_mini: Mini, images: Images, host_image: Image) -> None:
    """Debian's docker-registry, where it is installed: into another repository, and again, and all tags."""
    fresh_mini.run("pull", "-q", host_image.name)
    before = identity(fresh_mini, host_image.name)
    name = f"{images.registry.address}/pushed/by-mini"
    fresh_mini.run("tag", host_image.name, f"{name}:1")
    fresh_mini.run("tag", host_image.name, f"{name}:2")
    first = fresh_mini.run("push", f"{name}:1").lines
    assert sum(line.endswith(": Pushed") for line in first) == len(set(before[1]))
    again = fresh_mini.run("push", "-a", name).lines
    assert sum(line.endswith(": Layer already exists") for line in again) == 2 * len(set(before[1]))
    assert [line.split()[2] for line in again if "digest:" in line] == [first[-1].split()[2]] * 2
    elsewhere = f"{images.registry.address}/pushed/elsewhere:1"
    fresh_mini.run("tag", host_image.name, elsewhere)
    mounted = fresh_mini.run("push", elsewhere).lines
    assert sum(line.endswith(": Mounted from pushed/by-mini") for line in mounted) == len(set(before[1]))
    fresh_mini.run("rmi", "-f", before[0])
    fresh_mini.run("pull", "-q", elsewhere)
    assert identity(fresh_mini, elsewhere) == before


def test_what_push_says_of_what_it_cannot(fresh_mini: Mini, host_image: Image, serving: Serving) -> None:
    fresh_mini.run("pull", "-q", host_image.name)
    name = f"{serving.address}/x"
    for arguments, says in (
        ([f"{name}:1"], f"An image does not exist locally with the tag: {name}"),
        (["-a", f"{name}:1"], "tag can't be used with --all-tags/-a"),
        ([f"{name}@{host_image.digest}"], "cannot push a digest reference"),
        (["127.0.0.1:1/x"], "An image does not exist locally with the tag: 127.0.0.1:1/x"),
    ):
        result = fresh_mini.run("push", *arguments, check=False)
        assert (result.code, result.stderr) == (1, f"mini: {says}\n")
    fresh_mini.run("tag", host_image.name, "127.0.0.1:1/x:1")
    result = fresh_mini.run("push", "127.0.0.1:1/x:1", check=False)
    assert (result.code, result.stderr.splitlines()[0]) == (1, "mini: cannot reach 127.0.0.1:1: connection refused")
    fresh_mini.run("tag", host_image.name, f"{name}:1")
    assert fresh_mini.run("push", "-q", f"{name}:1").stdout == f"{name}:1\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_after_the_request_under_way(fresh_mini: Mini, tmp_path: Path, number: int) -> None:
    serving = Serving(fresh_mini, str(tmp_path / "served"), "-v")
    host, port = serving.address.split(":")
    data = b"x" * 1000
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v2/a/blobs/uploads/?digest={digest_of(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + data[:500])
        while not os.listdir(f"{serving.root}/uploads"):
            pass
        serving.process.send_signal(number)
        connection.sendall(data[500:])
        assert b" 201 " in connection.makefile("rb").readline()
    code, said = serving.stop(number)
    assert code == 0
    assert [line.split()[-2] for line in said.splitlines()] == ["201"]
    assert os.listdir(f"{serving.root}/uploads") == []
    again = Serving(fresh_mini, serving.root)
    assert requests.head(f"{again.url}/v2/a/blobs/{digest_of(data)}").status_code == 200
    again.stop()


def test_two_servers_do_not_share_a_directory_or_a_port(fresh_mini: Mini, serving: Serving, tmp_path: Path) -> None:
    same = fresh_mini.run("registry", "serve", "--root", serving.root, "--port", "0", check=False)
    assert (same.code, same.stderr.splitlines()[0]) == (1, f"mini: another server serves {serving.root}")
    port = serving.address.partition(":")[2]
    taken = fresh_mini.run("registry", "serve", "--root", str(tmp_path / "other"), "--port", port, check=False)
    assert taken.code == 1
    assert taken.stderr.startswith(f"mini: cannot listen on 127.0.0.1:{port}: address already in use\n")


def test_a_server_that_was_killed_comes_back_with_what_was_whole(
    fresh_mini: Mini, host_image: Image, tmp_path: Path
) -> None:
    fresh_mini.run("pull", "-q", host_image.name)
    serving = Serving(fresh_mini, str(tmp_path / "served"))
    name = f"{serving.address}/app:1"
    fresh_mini.run("tag", host_image.name, name)
    fresh_mini.run("push", "-q", name)
    place = requests.post(f"{serving.url}/v2/half/blobs/uploads/").headers["Location"]
    requests.patch(serving.url + place, data=b"half")
    serving.stop(signal.SIGKILL)
    again = Serving(fresh_mini, serving.root)
    digest, document = manifest(again.url, "app", "1")
    for entry in (document["config"], *document["layers"]):
        assert digest_of(requests.get(f"{again.url}/v2/app/blobs/{entry['digest']}").content) == entry["digest"]
    assert requests.get(f"{again.url}/v2/_catalog").json() == {"repositories": ["app"]}
    assert requests.get(again.url + place).headers["Range"] == "0-3", "an upload may go on"
    again.stop()


def test_all_tags_are_pulled(fresh_mini: Mini, serving: Serving) -> None:
    one = push_image(serving.url, "many", "1", [layer(b"one")])
    push_image(serving.url, "many", "2", [layer(b"one"), layer(b"two")])
    other = push_image(serving.url, "many", None, [layer(b"one")], platform="linux/s390x")
    push_index(serving.url, "many", "other", [("linux/s390x", other)])
    name = f"{serving.address}/many"
    result = fresh_mini.run("pull", "-a", name, check=False)
    assert result.code == 1 and "no matching manifest" in result.stderr, "and the others come all the same"
    assert result.lines[-2:] == [f"Status: Downloaded newer image for {name}", name]
    assert f"Digest: {one['manifest_digest']}" in result.lines
    assert sorted(fresh_mini.run("images", "--format", "{{.Tag}}").lines) == ["1", "2"]
    assert one["manifest_digest"] in fresh_mini.run("pull", "-aq", name, check=False).lines
    for bad in (f"{name}:1", f"{name}@{one['manifest_digest']}"):
        refused = fresh_mini.run("pull", "-a", bad, check=False)
        assert (refused.code, refused.stderr) == (1, "mini: tag can't be used with --all-tags/-a\n")


def layer(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def test_search_finds_in_the_catalog(fresh_mini: Mini, serving: Serving) -> None:
    for name in ("team/web", "team/webhook", "other"):
        push_image(serving.url, name, "1", [layer(b"x")])
    found = fresh_mini.run("search", "--format", "{{.Name}}", f"{serving.address}/web").lines
    assert found == [f"{serving.address}/team/web", f"{serving.address}/team/webhook"]
    assert fresh_mini.run("search", f"{serving.address}/nosuch").lines[0].split() == [
        "NAME", "DESCRIPTION", "STARS", "OFFICIAL",
    ]  # fmt: skip
    mirrored = {"MINI_REGISTRY_MIRRORS": f"docker.io={serving.url}", "MINI_REGISTRY_FALLBACK": "no"}
    assert fresh_mini.run("search", "--format", "{{.Name}}", "hook", env=mirrored).out == "team/webhook"


def test_search_that_reaches_nobody_is_one_error(fresh_mini: Mini) -> None:
    result = fresh_mini.run("search", "127.0.0.1:1/web", check=False)
    assert (result.code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[0] == "mini: cannot reach 127.0.0.1:1: connection refused"
    for arguments, code in ((["--limit", "101"], 1), (["-f", "color=red"], 1), (["-f", "stars"], 125)):
        assert fresh_mini.run("search", *arguments, "x", check=False).code == code


# --- other clients -------------------------------------------------------------------------------------------------


@pytest.mark.requires("skopeo")
def test_skopeo(fresh_mini: Mini, serving: Serving, image: Image, tmp_path: Path) -> None:
    """What mini pushed, copied by skopeo to a directory and from there into another repository, is the same to mini."""
    fresh_mini.run("pull", "-q", image.name)
    before = identity(fresh_mini, image.name)
    fresh_mini.run("tag", image.name, f"{serving.address}/a:1")
    digest = fresh_mini.run("push", f"{serving.address}/a:1").lines[-1].split()[2]
    skopeo("inspect", "--tls-verify=false", f"docker://{serving.address}/a:1", says=digest)
    options = ["--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "-q"]
    skopeo("copy", *options, f"docker://{serving.address}/a:1", f"dir:{tmp_path}/copy")
    skopeo("copy", *options, f"dir:{tmp_path}/copy", f"docker://{serving.address}/b/c:2")
    skopeo("list-tags", "--tls-verify=false", f"docker://{serving.address}/b/c", says='"2"')
    fresh_mini.run("rmi", "-f", before[0])
    fresh_mini.run("pull", "-q", f"{serving.address}/b/c:2")
    assert identity(fresh_mini, f"{serving.address}/b/c:2") == before
    skopeo("delete", "--tls-verify=false", f"docker://{serving.address}/b/c:2")
    assert fresh_mini.run("pull", f"{serving.address}/b/c:2", check=False).code == 1


def skopeo(*arguments: str, says: str = "") -> None:
    result = run_command(["skopeo", *arguments], dict(os.environ))
    assert says in result.stdout


@pytest.mark.requires("podman")
@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_podman(fresh_mini: Mini, serving: Serving, podman: Podman, host_image: Image, form: str) -> None:
    """mini pushes, podman pulls; podman pushes, mini pulls: the same image ID and DiffIDs all the way."""
    fresh_mini.run("pull", "-q", host_image.name)
    before = identity(fresh_mini, host_image.name)
    fresh_mini.run("tag", host_image.name, f"{serving.address}/a:1")
    fresh_mini.run("push", "-q", f"{serving.address}/a:1")
    pulled = podman.pull(f"{serving.address}/a:1")
    assert f"sha256:{pulled}" == before[0]
    (inspected,) = podman.run("image", "inspect", pulled).json()
    assert inspected["RootFS"]["Layers"] == before[1]
    same_form = manifest(serving.url, "a", "1")[1]["mediaType"].startswith("application/vnd.oci") == (form == "oci")
    podman.push(f"{serving.address}/a:1", f"{serving.address}/from/podman:1", "--format", form)
    fresh_mini.run("rmi", "-f", before[0])
    fresh_mini.run("pull", "-q", f"{serving.address}/from/podman:1")
    after = identity(fresh_mini, f"{serving.address}/from/podman:1")
    assert after[1] == before[1]
    assert after[0] == before[0] or not same_form, "podman rewrites the config where it changes the form"


@pytest.mark.requires("podman", "skopeo")
def test_clients_side_by_side(fresh_mini: Mini, serving: Serving, podman: Podman, tmp_path: Path) -> None:
    """Three programs push images of the same layers at once, and each finds its own."""
    tars = [layer(bytes([n]) * 300_000) for n in range(4)]
    pushed = push_image(serving.url, "base", "1", tars)
    name = f"{serving.address}/base:1"
    fresh_mini.run("pull", "-q", name)
    podman.pull(name)
    skopeo("copy", "-q", "--insecure-policy", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path}/dir")
    requests.delete(f"{serving.url}/v2/base/manifests/{pushed['manifest_digest']}")
    target = f"{serving.address}/together"
    fresh_mini.run("tag", name, f"{target}:mini")
    copy = [
        "copy",
        "-q",
        "--insecure-policy",
        "--dest-tls-verify=false",
        f"dir:{tmp_path}/dir",
        f"docker://{target}:skopeo",
    ]
    pushes = [
        threading.Thread(target=fresh_mini.run, args=("push", "-q", f"{target}:mini")),
        threading.Thread(target=podman.push, args=(name, f"{target}:podman")),
        threading.Thread(target=skopeo, args=copy),
    ]
    for thread in pushes:
        thread.start()
    for thread in pushes:
        thread.join()
    assert requests.get(f"{serving.url}/v2/together/tags/list").json()["tags"] == ["mini", "podman", "skopeo"]
    for tag in ("mini", "podman", "skopeo"):
        assert manifest(serving.url, "together", tag)[1]["config"]["digest"] == pushed["config_digest"]
        fresh_mini.run("pull", "-q", f"{target}:{tag}")


def test_manifest_inspect(fresh_mini: Mini, serving: Serving) -> None:
    image = push_image(serving.url, "app", "1", [layer(b"x")], platform="linux/arm64/v8")
    push_index(serving.url, "app", "multi", [("linux/arm64/v8", image)])
    one, multi = f"{serving.address}/app:1", f"{serving.address}/app:multi"
    assert fresh_mini.run("manifest", "inspect", one).json() == image["manifest"]
    assert fresh_mini.run("manifest", "inspect", multi).json()["manifests"][0]["digest"] == image["manifest_digest"]
    verbose = fresh_mini.run("manifest", "inspect", "-v", one).json()
    assert (verbose["Ref"], verbose["OCIManifest"]) == (one, image["manifest"])
    assert verbose["Descriptor"]["platform"] == {"architecture": "arm64", "os": "linux", "variant": "v8"}
    (entry,) = fresh_mini.run("manifest", "inspect", "--verbose", multi).json()
    assert (entry["Ref"], entry["OCIManifest"]) == (f"{multi}@{image['manifest_digest']}", image["manifest"])
    missing = fresh_mini.run("manifest", "inspect", f"{serving.address}/app:nosuch", check=False)
    assert missing.code == 1 and len(missing.stderr.splitlines()) == 1
    assert fresh_mini.run("images", "-q").out == ""


def test_a_push_that_is_killed_and_pushed_again(fresh_mini: Mini, serving: Serving, host_image: Image) -> None:
    fresh_mini.run("pull", "-q", host_image.name)
    name = f"{serving.address}/killed:1"
    fresh_mini.run("tag", host_image.name, name)
    push = fresh_mini.start("push", name)
    assert stopped_while(push, lambda: os.listdir(f"{serving.root}/uploads")), push.communicate()
    push.send_signal(signal.SIGKILL)
    push.communicate()
    assert requests.get(f"{serving.url}/v2/_catalog").json() == {"repositories": []}
    blobs = f"{serving.root}/blobs/sha256"
    for digest in os.listdir(blobs) if os.path.isdir(blobs) else ():
        sums = subprocess.run(["sha256sum", f"{blobs}/{digest}"], capture_output=True, text=True).stdout
        assert sums.startswith(digest)
    fresh_mini.run("push", "-q", name)
    before = identity(fresh_mini, name)
    fresh_mini.run("rmi", "-f", before[0])
    fresh_mini.run("pull", "-q", name)
    assert identity(fresh_mini, name) == before
