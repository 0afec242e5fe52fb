"""Netlink messages by hand: encoding, the kernel's answers, and what the hot path imports."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys

import pytest

from engine.runtime.network import nat, netlink
from engine.runtime.network.model import Network

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOT = ("netlink", "nftables", "nat", "ipam", "model", "bridge", "attach", "hostfiles")
HEAVY = (
    "pyroute2 requests typer tqdm asyncio http urllib logging subprocess pathlib dataclasses typing tempfile shutil "
    "inspect hashlib socket ipaddress engine.runtime.network.setup"
).split()


def test_the_hot_modules_import_nothing_heavy() -> None:
    names = [f"engine.runtime.network.{m}" for m in HOT]
    program = (
        f"import sys; sys.path.insert(0, {CHECKOUT!r}); before = set(sys.modules)\n"
        f"import {', '.join(names)}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    output = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    loaded = output.stdout.split()
    assert set(names) <= set(loaded)
    assert not set(HEAVY) & set(loaded)


def test_attributes_are_padded_and_read_back() -> None:
    packed = netlink.nested(5, netlink.string(1, "veth"), netlink.u32(2, 7), netlink.attribute(3, b"abcde"))
    assert len(packed) % 4 == 0
    [(kind, value)] = netlink.attribute_list(packed)
    assert kind == 5, "the flag NLA_F_NESTED is not part of the type"
    assert netlink.attributes(value) == {1: b"veth\0", 2: struct.pack("=I", 7), 3: b"abcde"}


@pytest.mark.parametrize("data", [b"", b"\1", b"\0\0\1\0", b"\3\0\1\0rest", struct.pack("=HH", 4, 1) + b"\2"])
def test_malformed_attributes_end_the_list(data: bytes) -> None:
    assert len(netlink.attribute_list(data)) <= 1


@pytest.mark.parametrize("address", ["10.0.0", "010.0.0.1", "::x", "10.0.0.1/8", "", "10.0.0.1\0"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError):
        netlink.inet(address)


@pytest.mark.requires("linux")
def test_loopback_is_found_and_a_missing_link_is_not() -> None:
    with netlink.Netlink() as route:
        assert netlink.link_index(route, "lo") == 1
        assert netlink.link_master(route, "lo") == 0
        assert netlink.link_master(route, "nosuchlink") is None
        with pytest.raises(OSError) as raised:
            netlink.link_index(route, "nosuchlink")
        assert raised.value.errno == errno.ENODEV


@pytest.mark.requires("linux", "root")
def test_the_first_failure_of_a_batch_is_told_with_its_command_and_the_rest_of_the_answers_is_read() -> None:
    missing = netlink.Change(netlink.RTM_DELLINK, 0, netlink.ifinfo(index=2**30), "ip link delete missing")
    also = netlink.Change(netlink.RTM_DELLINK, 0, netlink.ifinfo(index=2**30), "ip link delete also-missing")
    with netlink.Netlink() as route:
        with pytest.raises(OSError) as raised:
            route.apply([netlink.link_up(1, "lo"), missing, also])
        assert (raised.value.errno, raised.value.filename) == (errno.ENODEV, "ip link delete missing")
        route.apply([netlink.delete_link("nosuchlink"), netlink.link_up(1, "lo")])
        assert netlink.link_index(route, "lo") == 1


def test_the_plan_is_known_before_anything_is_done() -> None:
    network = Network("bridge", "f" * 64, "bridge", "", bridge="mini-longest-15", subnet="172.29.0.0/16")
    shared = [(rule.chain, rule.text) for rule in nat.rules(network) if not rule.owner]
    assert shared[:3] == [
        ("forward", "ct status dnat accept"),
        ("forward", "ct state established,related accept"),
        ("prerouting", "fib daddr type local jump ports"),
    ]
    assert ("ports", "dnat ip to ip daddr . meta l4proto . th dport map @ports4") in shared
    assert [(rule.chain, rule.text) for rule in nat.rules(network) if rule.owner] == [
        ("forward", 'iifname != "mini-longest-15" oifname "mini-longest-15" drop'),
        ("postrouting", 'ip saddr 172.29.0.0/16 oifname "mini-longest-15" ct status dnat masquerade'),
        ("postrouting", 'ip saddr 172.29.0.0/16 oifname != "mini-longest-15" masquerade'),
    ]
    network.internal = True
    texts = [rule.text for rule in nat.rules(network)]
    assert 'iifname "mini-longest-15" oifname != "mini-longest-15" drop' in texts
    assert not any("masquerade" in text for text in texts)
    assert all(len(rule.comment.encode()) < 128 for rule in nat.rules(network)), "libnftnl: NFTNL_UDATA_COMMENT_MAXLEN"
