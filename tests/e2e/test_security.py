"""What a container may not: capabilities, system calls, kernel files, as Docker has it by default."""

from __future__ import annotations

import platform
import re

import pytest

from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

DOCKER_CAPABILITIES = 0x00000000A80425FB


def _status(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def _own_bounding_set() -> int:
    with open("/proc/self/status") as file:
        return int(_status(file.read())["CapBnd"], 16)


def test_capabilities_and_seccomp(mini: Mini, image: Image) -> None:
    status = _status(mini.run("run", "--rm", image.name, "cat", "/proc/self/status").stdout)
    expected = f"{DOCKER_CAPABILITIES & _own_bounding_set():016x}"
    assert {name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "CapInh": "0" * 16,
        "CapPrm": expected,
        "CapEff": expected,
        "CapBnd": expected,
        "CapAmb": "0" * 16,
    }
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")


def test_another_user_has_no_capabilities(mini: Mini, image: Image) -> None:
    status = _status(mini.run("run", "--rm", "-u", "1234", image.name, "cat", "/proc/self/status").stdout)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert int(status["CapBnd"], 16) == DOCKER_CAPABILITIES & _own_bounding_set()


def test_exec_has_the_same(mini: Mini, image: Image) -> None:
    container = mini.detached(image.name, "sleep", "60")
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs")
    first = _status(mini.run("exec", container, "cat", "/proc/1/status").stdout)
    second = _status(mini.run("exec", container, "cat", "/proc/self/status").stdout)
    assert {name: first[name] for name in names} == {name: second[name] for name in names}


def test_privileged(mini: Mini, image: Image) -> None:
    status = _status(mini.run("run", "--rm", "--privileged", image.name, "cat", "/proc/self/status").stdout)
    assert int(status["CapEff"], 16) == _own_bounding_set()
    assert status["Seccomp"] == "0"
    script = "mkdir /m && mount -t tmpfs none /m && touch /m/x && umount /m && ls /dev/kmsg"
    assert mini.run("run", "--rm", "--privileged", image.name, "sh", "-c", script).out == "/dev/kmsg"


def test_mounting_is_refused(mini: Mini, image: Image) -> None:
    assert mini.run("run", "--rm", image.name, "mount", "-t", "tmpfs", "none", "/mnt", check=False).code != 0


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="numbers of two machines are known here")
def test_seccomp_refuses_what_capabilities_would_allow(mini: Mini, host_image: Image) -> None:
    """keyctl(2) and unshare(CLONE_NEWUSER) need no capability; Docker's filter answers EPERM."""
    keyctl, unshare = {"x86_64": (250, 272), "aarch64": (219, 97)}[platform.machine()]
    script = (
        "import ctypes\n"
        "c = ctypes.CDLL(None, use_errno=True)\n"
        f"for call in (({keyctl}, 0, -3, 1), ({unshare}, 0x10000000)):\n"
        "    print(c.syscall(*call), ctypes.get_errno())"
    )
    assert mini.run("run", "--rm", host_image.name, "python3", "-c", script).lines == ["-1 1", "-1 1"]


def test_kernel_files_are_masked_or_read_only(mini: Mini, image: Image) -> None:
    script = """
        for f in /proc/kcore /proc/keys /proc/timer_list; do test -e $f && head -c 1 $f; done
        ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v '^/' | grep .
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper; do
            test -e $f && echo x 2>/dev/null > $f && echo "wrote $f"
        done
        test -e /proc/bus && touch /proc/bus/x 2>/dev/null && echo bus
        true
    """
    result = mini.run("run", "--rm", image.name, "sh", "-c", script)
    assert result.stdout == ""


def test_devices(mini: Mini, image: Image) -> None:
    names = set(mini.run("run", "--rm", image.name, "ls", "/dev").out.split())
    names.discard("core")  # a link to /proc/kcore, where the kernel has that
    assert names == {
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    }  # fmt: skip
    script = "head -c 4 /dev/zero | wc -c; echo x > /dev/null; head -c 8 /dev/urandom | wc -c; echo y > /dev/full"
    out = mini.run("run", "--rm", image.name, "sh", "-c", script, check=False)
    assert [line.strip() for line in out.lines] == ["4", "8"]


def test_device_nodes_can_be_made_but_not_opened(mini: Mini, image: Image) -> None:
    """CAP_MKNOD is given; the device controller (or its BPF program) refuses the use. 1:1 is /dev/mem."""
    script = "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem"
    result = mini.run("run", "--rm", image.name, "sh", "-c", script, check=False)
    assert result.code != 0
    assert "operation not permitted" in result.stderr.lower()
