"""The test session's own namespaces: nothing that a test does can leave them."""

from __future__ import annotations

import socket

import pytest

from tests.support import requirements

pytestmark = pytest.mark.requires("linux", "root")


def test_no_way_out() -> None:
    assert requirements.missing("netns") is None
    with open("/proc/net/route") as file:
        assert [line.split()[0] for line in file.readlines()[1:] if line.split()[1] == "00000000"] == []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, pytest.raises(OSError, match="unreachable"):
        sender.connect(("192.0.2.1", 9))


def test_mounts_stay_inside() -> None:
    with open("/proc/self/mountinfo") as file:
        assert [line for line in file if "shared:" in line.split(" - ")[0]] == []
