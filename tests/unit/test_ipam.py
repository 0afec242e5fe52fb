"""Leases: lowest free address, none twice, none half-made, whoever dies when."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from engine.errors import Conflict, UsageError
from engine.runtime.network import ipam

SUBNET, GATEWAY = "10.9.0.0/29", "10.9.0.1"


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "networks" / "bridge" / "leases")


def test_the_lowest_free_address_is_given(directory: str) -> None:
    assert [ipam.reserve(directory, SUBNET, GATEWAY, c) for c in "abc"] == ["10.9.0.2", "10.9.0.3", "10.9.0.4"]
    ipam.release(directory, "b")
    assert ipam.reserve(directory, SUBNET, GATEWAY, "d") == "10.9.0.3"
    assert ipam.leases(directory) == {"10.9.0.2": "a", "10.9.0.3": "d", "10.9.0.4": "c"}


def test_an_exhausted_subnet_is_named(directory: str) -> None:
    given = {ipam.reserve(directory, SUBNET, "10.9.0.4", f"c{i}") for i in range(5)}
    assert given == {"10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.5", "10.9.0.6"}
    with pytest.raises(Conflict, match="10.9.0.0/29"):
        ipam.reserve(directory, SUBNET, "10.9.0.4", "one too many")


def test_a_wanted_address(directory: str) -> None:
    assert ipam.reserve(directory, SUBNET, GATEWAY, "a", "10.9.0.5") == "10.9.0.5"
    assert ipam.reserve(directory, SUBNET, GATEWAY, "a", "10.9.0.5") == "10.9.0.5"
    with pytest.raises(Conflict, match="^Address already in use$"):
        ipam.reserve(directory, SUBNET, GATEWAY, "b", "10.9.0.5")


@pytest.mark.parametrize("own", ["10.9.0.0", GATEWAY, "10.9.0.7"])
def test_the_networks_own_addresses_are_refused(directory: str, own: str) -> None:
    with pytest.raises(Conflict, match="^Address already in use$"):
        ipam.reserve(directory, SUBNET, GATEWAY, "a", own)


@pytest.mark.parametrize("foreign", ["10.9.0.8", "::1", "10.9.0", "../../etc/passwd", ""])
def test_an_address_outside_the_subnet_is_refused(directory: str, foreign: str) -> None:
    with pytest.raises(UsageError):
        ipam.reserve(directory, SUBNET, GATEWAY, "a", foreign)
    assert ipam.leases(directory) == {}


def test_release_takes_only_what_the_owner_holds(directory: str) -> None:
    for owner in ("a", "b", "a"):
        ipam.reserve(directory, SUBNET, GATEWAY, owner)
    ipam.release(directory, "b", "10.9.0.2")
    assert len(ipam.leases(directory)) == 3
    ipam.release(directory, "a", "10.9.0.2")
    assert ipam.leases(directory) == {"10.9.0.3": "b", "10.9.0.4": "a"}
    ipam.release(directory, "a")
    ipam.release(directory, "a")
    assert ipam.leases(directory) == {"10.9.0.3": "b"}


@pytest.mark.parametrize(
    "text", ["10.9.0.0", "10.9.0.0/31", "10.9.0.0/x", "10.9.0/24", "fd00::/127", "fd00::/7", "10.9.0.0/4", ""]
)
def test_what_is_no_usable_subnet(text: str) -> None:
    with pytest.raises(UsageError, match="invalid subnet"):
        ipam.Subnet(text)


def test_a_subnet_given_by_any_of_its_addresses() -> None:
    subnet = ipam.Subnet("172.29.3.4/16")
    assert (str(subnet), subnet.gateway, subnet.broadcast) == ("172.29.0.0/16", "172.29.0.1", "172.29.255.255")
    assert "172.29.255.1" in subnet and "172.30.0.0" not in subnet and "nonsense" not in subnet


def test_fifty_at_once_get_fifty_addresses(directory: str) -> None:
    gate, opened = os.pipe()
    children = []
    for i in range(50):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(opened)
                os.read(gate, 1)  # end of file, for all of them at the same moment
                ipam.reserve(directory, "10.9.0.0/26", GATEWAY, f"container-{i}")
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    os.close(gate)
    os.close(opened)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 50
    assert sorted(ipam.leases(directory).values()) == sorted(f"container-{i}" for i in range(50))


def test_killed_at_any_instant_it_leaves_whole_leases_only(directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    for round_ in range(15):
        before = len(os.listdir(directory))
        pid = os.fork()
        if pid == 0:
            try:
                for i in range(100_000):
                    ipam.reserve(directory, "10.0.0.0/8", "10.0.0.1", f"{round_}-{i}".ljust(64, "x"))
            finally:
                os._exit(0)
        while len(os.listdir(directory)) == before:
            time.sleep(0.001)
        time.sleep(round_ / 1000)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    held = ipam.leases(directory)
    assert held
    assert set(os.listdir(directory)) == set(held)
    assert all(len(owner) == 64 and address in ipam.Subnet("10.0.0.0/8") for address, owner in held.items())
