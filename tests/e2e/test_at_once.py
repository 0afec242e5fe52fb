"""Many containers at once: started side by side, told apart, and removed without a trace."""

from __future__ import annotations

import pytest

from tests.support import leaks
from tests.support.conformance import until
from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("root", "linux", "netns")

COUNT = 50
LARGEST_MONITOR = 8 << 20


def comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, and before it is read
        return ""


def monitors_of(mini: Mini) -> list[int]:
    return [pid for pid in leaks.processes(mini) if comm(pid) == "mini-monitor"]


def proportional_size(pid: int) -> int:
    """Bytes, those that several processes share divided among them (proc_pid_smaps(5))."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


@pytest.mark.timeout(300)
def test_fifty_at_once(fresh_mini: Mini, host_image: Image) -> None:
    """The first of all in a data root, too: image mount, bridge and seccomp filter are made by one of them, once.

    None of their monitors holds more than it needs, nor does the one whose container came first.
    """
    mini = fresh_mini
    mini.run("pull", "-q", host_image.name)
    running = [mini.start("run", "-d", host_image.name, "sleep", "1000") for _ in range(COUNT)]
    outcomes = [process.communicate(timeout=200) for process in running]
    assert [error for _, error in outcomes if error] == []
    ids = [out.strip() for out, _ in outcomes]
    assert len(set(ids)) == COUNT

    shown = [line.split() for line in mini.run("ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}").lines]
    assert sorted(line[0] for line in shown) == sorted(ids)
    assert len({line[1] for line in shown}) == COUNT
    assert {line[2] for line in shown} == {"running"}
    found = mini.run("inspect", *ids).json()
    assert len({one["NetworkSettings"]["IPAddress"] for one in found}) == COUNT
    assert mini.run("exec", ids[0], "true").code == 0
    # the child of one that did the exec ends after the client
    monitors = until(lambda: len(found := monitors_of(mini)) == COUNT and found)
    sizes = {pid: proportional_size(pid) for pid in monitors}
    assert max(sizes.values()) <= LARGEST_MONITOR, sizes

    assert mini.run("rm", "-f", *ids, timeout=200).lines == ids
    assert mini.run("ps", "-aq").lines == []
    mini.assert_nothing_left()


def test_several_are_stopped_at_once_and_each_is_told_in_its_place(mini: Mini, host_image: Image) -> None:
    names = ["one", "two", "three"]
    for name in names:
        mini.detached("--name", name, host_image.name, "sleep", "1000")
    done = mini.run("stop", "-t", "1", *names[:2], "nosuch", names[2], check=False)
    assert (done.code, done.lines) == (1, names)
    assert "No such container: nosuch" in done.stderr
    assert mini.run("ps", "-q").lines == []
    assert mini.run("rm", *names).lines == names
