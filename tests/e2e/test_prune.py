"""What nothing uses goes, what is used stays, and the numbers are those of du."""

from __future__ import annotations

import os
import re
import subprocess
import time

import pytest

from engine.context import Context
from engine.paths import Paths
from engine.system.diskusage import Usage
from tests.support.images import Image, Images
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

QUESTION = "Are you sure you want to continue? [y/N] "


def _du(root: str) -> int:
    """Allocated bytes, each inode once, this file system only."""
    out = subprocess.run(["du", "-sx", "--block-size=1", root], capture_output=True, text=True, check=True).stdout
    return int(out.split()[0])


@pytest.fixture
def used(fresh_mini: Mini, host_image: Image) -> Mini:
    """An image with a container that runs and one that does not, each with an anonymous volume; a named one of nobody."""
    fresh_mini.run("pull", "-q", host_image.name)
    fresh_mini.run("run", "-d", "--name", "up", "-v", "/data", host_image.name, "sleep", "60")
    fresh_mini.run("run", "--name", "done", "-l", "a=b", "-v", "/data", host_image.name, "sh", "-c", "echo x > /data/x")
    fresh_mini.run("volume", "create", "mine")
    return fresh_mini


@pytest.mark.parametrize("answer", ["", "n\n", "no y\n"])
def test_without_a_yes_nothing_goes(used: Mini, answer: str) -> None:
    for command, what in (
        ("container prune", "WARNING! This will remove all stopped containers."),
        ("image prune -a", "WARNING! This will remove all images without at least one container associated to them."),
        ("volume prune", "WARNING! This will remove anonymous local volumes not used by at least one container."),
    ):
        assert used.run(*command.split(), input=answer).stdout == f"{what}\n{QUESTION}"
    said = used.run("system", "prune", "--volumes", input=answer)
    assert said.lines[0] == "WARNING! This will remove:" and said.stdout.endswith(QUESTION)
    assert len(used.run("ps", "-aq").lines) == 2 and len(used.run("volume", "ls", "-q").lines) == 3
    assert len(used.run("images", "-q").lines) == 1


def test_each_takes_what_nothing_uses(used: Mini, host_image: Image) -> None:
    done = used.inspect("done")["Id"]
    assert used.run("container", "prune", "-f", "--filter", "label=a=c").lines == ["Total reclaimed space: 0B"]
    assert used.run("image", "prune", "-af").lines == ["Total reclaimed space: 0B"]
    assert used.run("volume", "prune", "-f").lines == ["Total reclaimed space: 0B"]
    pruned = used.run("container", "prune", input="y\n")
    assert pruned.stdout.partition(QUESTION)[2].splitlines()[:2] == ["Deleted Containers:", done]
    assert re.fullmatch(r"Total reclaimed space: [\d.]+kB", pruned.lines[-1])
    assert used.run("ps", "-aq").lines == [used.inspect("up")["Id"][:12]]
    assert len(used.run("volume", "prune", "-f").lines) == 4
    assert "mine" in used.run("volume", "ls", "-q").lines
    assert used.run("volume", "prune", "-af").lines[:2] == ["Deleted Volumes:", "mine"]
    assert used.run("exec", "up", "ls", "/data").code == 0
    used.run("rm", "-f", "-v", "up")
    pruned = used.run("image", "prune", "-af")
    assert pruned.lines[:2] == ["Deleted Images:", f"untagged: {host_image.name}"]
    assert any(line.startswith("deleted: sha256:") for line in pruned.lines)
    used.assert_nothing_left(images_too=True)


def test_system_prune_leaves_what_runs(used: Mini, host_image: Image) -> None:
    pruned = used.run("system", "prune", "-af", "--volumes")
    assert [line for line in pruned.lines if line.endswith(":")] == ["Deleted Containers:", "Deleted Volumes:"]
    assert used.run("exec", "up", "echo", "alive").out == "alive"
    assert used.run("volume", "ls", "-q").lines[-1] == "mine"
    used.run("rm", "-f", "-v", "up")
    before = _du(used.root)
    pruned = used.run("system", "prune", "-af")
    given_back = before - _du(used.root)
    number = float(re.fullmatch(r"Total reclaimed space: ([\d.]+)MB", pruned.lines[-1])[1])  # type: ignore[index]
    assert number == pytest.approx(given_back / 1e6, abs=0.1)
    assert used.run("run", "--rm", host_image.name, "echo", "again").out == "again"


def test_what_a_filter_is_not(fresh_mini: Mini) -> None:
    for words, code, message in (
        ("image prune -f --filter foo=bar", 1, "Invalid filter 'foo'"),
        ("image prune -f --filter until=xx", 1, 'failed to parse value as time or duration: "xx"'),
        ("image prune -f --filter until=1h --filter until=2h", 1, "more than one until filter specified"),
        ("volume prune -f --filter until=1h", 1, "Invalid filter 'until'"),
        ("system prune -f --volumes --filter until=1h", 1, 'The "until" filter is not supported with "--volumes"'),
        ("image prune -f --filter x", 125, "bad format of filter (expected name=value)"),
        ("image prune -f --unused-for x", 125, 'invalid duration "x"'),
    ):
        said = fresh_mini.run(*words.split(), check=False)
        assert (said.code, message in said.stderr) == (code, True), said


def test_images_go_by_creation_and_by_last_use(fresh_mini: Mini, images: Images) -> None:
    host, other = "host:latest", images.index_name
    fresh_mini.run("pull", "-q", host)
    fresh_mini.run("tag", host, "kept:1")
    left = fresh_mini.run("image", "prune", "-af", "--unused-for", "1h")
    assert left.lines == ["Total reclaimed space: 0B"]
    assert fresh_mini.run("image", "prune", "-af", "--filter", "until=2000-01-01").lines == left.lines
    record = f"{fresh_mini.root}/images/{os.listdir(f'{fresh_mini.root}/images')[0]}"
    os.utime(record, (0, 0))
    fresh_mini.run("run", "--rm", host, "true")
    assert os.stat(record).st_mtime > 1e9
    assert fresh_mini.run("image", "prune", "-af", "--unused-for", "1h").lines == left.lines
    assert fresh_mini.run("image", "prune", "-af", "--keep-storage", "10g").lines == left.lines
    os.utime(record, (0, 0))
    pruned = fresh_mini.run("image", "prune", "-af", "--unused-for", "1h")
    assert {"untagged: host:latest", "untagged: kept:1"} < set(pruned.lines)
    assert fresh_mini.run("images", "-q").out == ""
    fresh_mini.run("pull", "-q", other)
    assert len(fresh_mini.run("image", "prune", "-af", "--keep-storage", "1").lines) > 3
    fresh_mini.assert_nothing_left(images_too=True)


def test_pulls_and_prunes_at_once(fresh_mini: Mini, images: Images) -> None:
    """Each pull has the whole image or says why not; what is there in the end is whole, and a pull of it works."""
    names = [image.name for image in images.all()] + [images.index_name]
    for _ in range(3):
        pulls = [fresh_mini.start("pull", "-q", name) for name in names]
        while any(pull.poll() is None for pull in pulls):
            fresh_mini.run("system", "prune", "-af")
        for pull in pulls:
            _, err = pull.communicate()
            assert pull.returncode == 0 or "was removed while its image was pulled" in err, err
        assert fresh_mini.run("fsck").lines[-1].endswith("all is as it must be")
    fresh_mini.run("run", "--rm", names[0], "true")
    fresh_mini.run("system", "prune", "-af")
    fresh_mini.assert_nothing_left(images_too=True)


def _counted(root: str) -> int:
    return sum(kind.size for kind in Usage(Context(Paths(root), {})).kinds)


@pytest.mark.parametrize("driver", [pytest.param("erofs", marks=pytest.mark.requires("erofs")), "directory"])
def test_df_is_true_to_du(images: Images, host_image: Image, driver: str) -> None:
    mini = Mini({**images.environ, "MINI_STORAGE_DRIVER": driver})
    try:
        mini.run("pull", "-q", host_image.name)
        mini.run(
            "run",
            "--name",
            "it",
            "-v",
            "data:/data",
            host_image.name,
            "sh",
            "-c",
            "head -c 3000000 /dev/zero > /data/x",
        )
        sparse = f"{mini.root}/volumes/data/_data/sparse"
        os.truncate(os.open(sparse, os.O_CREAT | os.O_WRONLY), 1 << 40)
        os.link(f"{mini.root}/volumes/data/_data/x", f"{mini.root}/volumes/data/_data/y")
        # ext4 gives files their blocks when it writes them back, and what they take changes until then
        deadline = time.monotonic() + 30
        while (counted := _counted(mini.root)) != (by_du := _du(mini.root)) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert counted == by_du
        rows = [line.split("  ") for line in mini.run("system", "df").lines]
        assert [row[0] for row in rows] == ["TYPE", "Images", "Containers", "Local Volumes", "Build Cache", "Other"]
        shown = {line["Type"]: line for line in map(_json, mini.run("system", "df", "--format", "json").lines)}
        assert (shown["Images"]["TotalCount"], shown["Images"]["Active"]) == ("1", "1")
        assert (shown["Containers"]["TotalCount"], shown["Containers"]["Active"]) == ("1", "0")
        assert shown["Local Volumes"]["Size"].startswith("3.0") and shown["Local Volumes"]["Reclaimable"] == "0B (0%)"
        assert shown["Images"]["Reclaimable"] == "0B (0%)"
        mini.run("rm", "it")
        (images_kind, *_) = Usage(Context(Paths(mini.root), {})).kinds
        # what is told of the pruning may take one block more
        before, told = _du(mini.root), _du(f"{mini.root}/events.jsonl")
        mini.run("image", "prune", "-af")
        told -= _du(f"{mini.root}/events.jsonl")
        assert images_kind.reclaimable == before - _du(mini.root) - told
        (section, *_) = mini.run("system", "df", "-v").lines
        assert section == "Images space usage:"
    finally:
        mini.close()


def _json(line: str) -> dict[str, str]:
    import json

    return json.loads(line)  # type: ignore[no-any-return]
