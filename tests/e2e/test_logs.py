"""`--log-driver` and `logs`, with a container that writes: every driver, what a full disk and SIGKILL do, and the real journal."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import linux
from tests.support.images import Image, Images
from tests.support.journal import Journal
from tests.support.runner import Mini, Result

pytestmark = [pytest.mark.requires("linux", "root", "netns"), pytest.mark.timeout(180)]

BINARY = r"printf 'a\377\000b\n\n'; echo err >&2; printf end"
FILES = [
    [],
    ["--log-driver", "local"],
    ["--log-driver", "local", "--log-opt", "mode=non-blocking"],
    ["--log-opt", "compress=true", "--log-opt", "max-size=300", "--log-opt", "max-file=50"],
    ["--log-driver", "local", "--log-opt", "max-size=300", "--log-opt", "max-file=50"],
]


@pytest.fixture
def journal() -> Iterator[Journal]:
    made = Journal()
    yield made
    made.close()


def directory(mini: Mini, name: str) -> Path:
    return Path(mini.root, "containers", mini.inspect(name)["Id"])


def wait_for(mini: Mini, name: str, text: str) -> Result:
    deadline = time.monotonic() + 30
    while text not in (result := mini.run("logs", name)).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result


def check(mini: Mini, options: list[str], image: str) -> None:
    """What was written comes back, by bytes, streams, time and number, then and while it is written."""
    mini.run("run", "--name", "it", *options, image, "sh", "-c", BINARY)
    found = mini.run("logs", "it")
    assert (found.stdout.encode("utf-8", "surrogateescape"), found.stderr) == (b"a\xff\x00b\n\nend", "err\n")
    script = "for n in $(seq 20); do echo $n; sleep 0.02; done; echo " + "x" * 40000
    mini.run("run", "-d", "--name", "slow", *options, image, "sh", "-c", script)
    wanted = [*(str(n) for n in range(1, 21)), "x" * 40000]
    assert mini.run("logs", "-f", "slow").lines == wanted
    assert mini.run("logs", "slow").lines == wanted
    stamped = [line.partition(" ")[::2] for line in mini.run("logs", "-t", "slow").lines[:20]]
    times = [stamp for stamp, _ in stamped]
    assert [text for _, text in stamped] == wanted[:20] and times == sorted(times)
    # the long line is three records, as in Docker
    assert mini.run("logs", "--tail", "5", "slow").lines == wanted[-3:]
    assert mini.run("logs", "-f", "--tail", "4", "slow").lines == wanted[-2:]
    assert mini.run("logs", "--tail", "0", "slow").stdout == ""
    # a monitor that was late has read several lines at one time
    first, after = times.index(times[10]), len(times) - times[::-1].index(times[14])
    assert mini.run("logs", "--since", times[10], "--until", times[14], "slow").lines == wanted[first:after]
    assert mini.run("logs", "--since", times[10], "slow").lines == wanted[first:]


@pytest.mark.parametrize("options", FILES, ids=" ".join)
def test_files(mini: Mini, host_image: Image, options: list[str]) -> None:
    check(mini, options, host_image.name)


def test_a_tail_while_it_grows_and_rotates(mini: Mini, host_image: Image) -> None:
    """`logs -f --tail 1` begins at the end and misses nothing, over many rotations."""
    options = ["--log-driver", "local", "--log-opt", "max-size=2k", "--log-opt", "max-file=100"]
    script = "echo up; read x; for n in $(seq 2000); do echo line $n; done; sleep 1"
    mini.run("create", "-i", "--name", "it", *options, host_image.name, "sh", "-c", script)
    client = mini.start("start", "-ai", "it")
    wait_for(mini, "it", "up")
    follow = mini.start("logs", "-f", "--tail", "1", "it")
    assert follow.stdout and follow.stdout.readline() == "up\n"
    client.communicate("go\n")
    assert follow.communicate()[0].splitlines() == [f"line {n}" for n in range(1, 2001)]
    assert len(list(directory(mini, "it").glob("container.log.*.gz"))) > 10


def test_none(mini: Mini, host_image: Image) -> None:
    mini.run("run", "--name", "it", "--log-driver", "none", host_image.name, "echo", "seen")
    for options in ([], ["-f"]):
        result = mini.run("logs", *options, "it", check=False)
        assert result.code == 1 and "configured logging driver does not support reading" in result.stderr
    assert mini.inspect("it")["LogPath"] == "" and not list(directory(mini, "it").glob("container.log*"))


def test_attributes(mini: Mini, host_image: Image) -> None:
    options = ["--log-opt", "labels=a,nosuch", "--log-opt", "env-regex=^B", "--log-opt", "tag={{.Name}}/{{.ID}}"]
    mini.run("run", "--name", "it", "--label", "a=1", "-e", "BC=2", *options, host_image.name, "echo", "x")
    path = mini.inspect("it")["LogPath"]
    record = json.loads(Path(path).read_text())
    assert record["attrs"] == {"a": "1", "BC": "2", "tag": f"it/{mini.inspect('it')['Id'][:12]}"}
    assert list(record) == ["log", "stream", "attrs", "time"]


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_a_monitor_that_is_killed_leaves_a_log_that_can_be_read(mini: Mini, host_image: Image, driver: str) -> None:
    """At any instant: of what is left every line is whole but the last, and the next life writes on."""
    options = [
        "--log-driver",
        driver,
        "--log-opt",
        "max-size=100k",
        "--log-opt",
        "max-file=4",
        "--log-opt",
        "compress=true",
    ]
    script = "i=0; while :; do i=$((i+1)); echo this is line $i of many; done"
    mini.run("run", "-d", "--name", "it", *options, host_image.name, "sh", "-c", script)
    for _ in range(4):
        wait_for(mini, "it", "of many")
        os.kill(mini.monitor("it"), signal.SIGKILL)
        mini.run("wait", "it", check=False)
        found = mini.run("logs", "it").lines
        numbers = [int(line.split()[3]) for line in found if line]
        assert found and all(line == f"this is line {n} of many" for line, n in zip(found, numbers, strict=True))
        assert all(b == a + 1 or b == 1 for a, b in zip(numbers, numbers[1:], strict=False))
        assert mini.run("logs", "--tail", "3", "it").lines == found[-3:]
        mini.run("start", "it")
    mini.run("kill", "it")


@pytest.fixture
def small_disk(tmp_path: Path, images: Images) -> Iterator[Mini]:
    """A data root on a disk of 64 MB."""
    root = tmp_path / "disk"
    root.mkdir()
    linux.mount("tmpfs", str(root), "tmpfs", 0, "size=64m,mode=711")
    mini = Mini(images.environ, root=str(root))
    yield mini
    linux.umount2(str(root), linux.MNT_DETACH)


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_a_full_disk_costs_the_log_and_nothing_else(small_disk: Mini, host_image: Image, driver: str) -> None:
    """The container goes on, all of its output reaches the client, and its exit code is there, for later commands, too."""
    mini, disk = small_disk, Path(small_disk.root)
    mini.run("pull", "-q", host_image.name)
    # without a network, whose files would give room again when it ends
    options = ["--network", "none", "--log-driver", driver, "-v", f"{disk}:/disk"]
    script = "head -c 1000000000 /dev/zero > /disk/ballast; for n in $(seq 3000); do echo line $n; done; exit 7"
    result = mini.run(
        "run", "--name", "it", *options, host_image.name, "sh", "-c", f"{script} 2>/dev/null", check=False
    )
    assert os.statvfs(disk).f_bavail < 8
    assert (result.code, result.lines[-3000:]) == (7, [f"line {n}" for n in range(1, 3001)])
    state = mini.inspect("it")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 7)
    assert mini.run("wait", "it").out == "7"
    found = mini.run("logs", "it").lines
    assert len(found) < 3000 and found == [f"line {n}" for n in range(1, len(found) + 1)]
    mini.run("rm", "it")
    (disk / "ballast").unlink()
    mini.run("rmi", host_image.name)


# --- the journal


@pytest.mark.requires("journal")
def test_the_journal(mini: Mini, host_image: Image, journal: Journal) -> None:
    check(mini, ["--log-driver", "journald"], host_image.name)
    it = mini.inspect("it")
    assert it["LogPath"] == "" and not list(directory(mini, "it").glob("container.log*"))
    entries = journal.entries(it["Id"])
    # what is no text is an array of numbers in journalctl's JSON
    assert sorted((str(e["MESSAGE"]), e["PRIORITY"]) for e in entries) == [
        ("", "6"), ("[97, 255, 0, 98]", "6"), ("end", "6"), ("err", "3"),
    ]  # fmt: skip
    for entry in entries:
        fields = {key: entry[key] for key in ("CONTAINER_ID", "CONTAINER_NAME", "CONTAINER_TAG", "IMAGE_NAME")}
        assert fields == {
            "CONTAINER_ID": it["Id"][:12], "CONTAINER_NAME": "it", "CONTAINER_TAG": it["Id"][:12],
            "IMAGE_NAME": host_image.name,
        }  # fmt: skip
        assert entry["SYSLOG_IDENTIFIER"] == it["Id"][:12] and entry["_TRANSPORT"] == "journal"
    parts = [e for e in journal.entries(mini.inspect("slow")["Id"]) if "CONTAINER_PARTIAL_ID" in e]
    assert [(e["CONTAINER_PARTIAL_ORDINAL"], e["CONTAINER_PARTIAL_LAST"], len(e["MESSAGE"])) for e in parts] == [
        ("1", "false", 16384), ("2", "false", 16384), ("3", "true", 40000 - 2 * 16384),
    ]  # fmt: skip


@pytest.mark.requires("journal")
def test_what_is_noted_in_the_journal(mini: Mini, host_image: Image, journal: Journal) -> None:
    options = [
        "--log-driver",
        "journald",
        "--log-opt",
        "tag={{.Name}}",
        "--log-opt",
        "labels=com.a",
        "--log-opt",
        "env=B,C",
    ]
    big = "x" * 120_000  # with its like beyond what a datagram can hold: it comes by a memfd
    variables = ["-e", f"B={big}", "-e", f"C={big}"]
    mini.run("run", "--name", "it", "--label", "com.a=1", *variables, *options, host_image.name, "echo", "x")
    (entry,) = journal.entries(mini.inspect("it")["Id"])
    assert (entry["SYSLOG_IDENTIFIER"], entry["COM_A"], entry["B"], entry["MESSAGE"]) == ("it", "1", big, "x")
    assert mini.run("logs", "it").out == "x"


@pytest.mark.requires("journal")
def test_several_lives_in_the_journal_and_a_reader_that_leaves(mini: Mini, host_image: Image, journal: Journal) -> None:
    mini.run("run", "--name", "it", "--log-driver", "journald", host_image.name, "echo", "one")
    mini.run("start", "-a", "it")
    assert mini.run("logs", "it").lines == ["one", "one"]
    mini.run(
        "run", "-d", "--name", "long", "--log-driver", "journald", host_image.name, "sh", "-c", "echo up; sleep 60"
    )
    follow = mini.start("logs", "-f", "long")
    assert follow.stdout and follow.stdout.readline() == "up\n"
    follow.send_signal(signal.SIGINT)
    follow.communicate(timeout=20)
    mini.run("rm", "-f", "long")


def test_no_journal(mini: Mini, host_image: Image, tmp_path: Path) -> None:
    """Refused before anything is made."""
    linux.mount("tmpfs", "/run/systemd", "tmpfs", 0, None)
    try:
        result = mini.run("run", "--name", "it", "--log-driver", "journald", host_image.name, "true", check=False)
    finally:
        linux.umount2("/run/systemd", linux.MNT_DETACH)
    assert result.code == 125 and "journald is not enabled on this host" in result.stderr
    assert "/run/systemd/journal/socket" in result.stderr and mini.run("ps", "-aq").out == ""


@pytest.mark.requires("journal")
def test_no_journalctl(mini: Mini, host_image: Image, journal: Journal) -> None:
    mini.run("run", "--name", "it", "--log-driver", "journald", host_image.name, "true")
    result = mini.run("logs", "it", env={"PATH": "/nosuch"}, check=False)
    assert result.code == 1 and "no journalctl" in result.stderr


def test_compressed_files_are_gzip(mini: Mini, host_image: Image) -> None:
    options = ["--log-opt", "max-size=1k", "--log-opt", "max-file=3", "--log-opt", "compress=true"]
    mini.run("run", "--name", "it", *options, host_image.name, "sh", "-c", "for n in $(seq 100); do echo line $n; done")
    files = sorted(path.name for path in directory(mini, "it").glob("container.log*"))
    assert files == ["container.log", "container.log.1.gz", "container.log.2.gz"]
    data = gzip.decompress((directory(mini, "it") / "container.log.2.gz").read_bytes())
    assert 1000 <= len(data) < 1200 and all(json.loads(line)["stream"] == "stdout" for line in data.splitlines())
