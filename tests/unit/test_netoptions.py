"""`--network` and `network create`: what is asked for, in Docker's form, and what is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.containers import netoptions
from engine.containers.networking import Joined, gateways
from engine.containers.options import CreateOptions
from engine.context import Context
from engine.errors import Conflict, MiniError, UsageError
from engine.paths import Paths
from engine.runtime.network.ipam import Subnet
from engine.runtime.network.model import Network, Networks
from engine.storage.findings import DAMAGED, RUBBISH
from engine.system import netcheck, netrequest, networks
from engine.system.netrequest import Request


def test_the_long_form() -> None:
    name, config = netoptions.parse(
        "name=n,alias=a,alias=b,ip=10.0.0.5,ip6=fd00::5,mac-address=02:42:0:1:2:3,driver-opt=k=v=w,gw-priority=-2"
    )
    assert name == "n"
    assert config == {
        "IPAMConfig": {"IPv4Address": "10.0.0.5", "IPv6Address": "fd00::5"}, "Links": None, "Aliases": ["a", "b"],
        "MacAddress": "02:42:0:1:2:3", "DriverOpts": {"k": "v=w"}, "GwPriority": -2,
    }  # fmt: skip
    assert netoptions.parse("plain") == ("plain", netoptions.endpoint_config())


@pytest.mark.parametrize(
    ("given", "mode", "networks"),
    [
        ([], "bridge", ["bridge"]), (["default"], "bridge", ["bridge"]), (["host"], "host", ["host"]),
        (["a", "name=b"], "a", ["a", "b"]), (["container:x"], "container:x", []),
    ],
)  # fmt: skip
def test_modes(given: list[str], mode: str, networks: list[str]) -> None:
    options = CreateOptions(networks=given)
    assert netoptions.mode(options) == mode and list(netoptions.settings(options)) == networks


def test_plain_options_are_for_the_first_network() -> None:
    options = CreateOptions(
        networks=["a", "b"], ip="10.0.0.9", network_aliases=["x"], mac_address="02-42-00-00-00-01", links=["c:d"]
    )
    found = netoptions.settings(options)
    assert found["a"]["IPAMConfig"] == {"IPv4Address": "10.0.0.9"} and found["a"]["Links"] == ["c:d"]
    assert (found["a"]["Aliases"], found["a"]["MacAddress"]) == (["x"], "02-42-00-00-00-01")
    assert found["b"] == netoptions.endpoint_config()
    assert netoptions.links(options) is None
    assert netoptions.links(CreateOptions(links=["c:d", "e"])) == ["/c:d", "/e:e"]


@pytest.mark.parametrize(
    "options",
    [
        {"networks": ["a", "a"]}, {"networks": ["default", "bridge"]}, {"networks": ["host", "none"]}, {"networks": ["host", "a"]},
        {"networks": [" "]}, {"ip": "10.0.0.1"}, {"networks": ["a"], "ip": "fd00::1"}, {"networks": ["a"], "ip6": "10.0.0.1"},
        {"networks": ["name=a,ip=10.0.0.1"], "ip": "10.0.0.1"}, {"networks": ["name=a,mac-address=x"]},
        {"networks": ["a"], "mac_address": "02:42:00:00:00"}, {"network_aliases": ["x"]},
    ],
)  # fmt: skip
def test_what_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        netoptions.settings(CreateOptions(**options))


def _joined(name: str, internal: bool = False, address6: str = "", priority: int = 0) -> Joined:
    joined = Joined(Network(name, "1" * 64, "bridge", "", internal=internal), {"GwPriority": priority})
    joined.address6 = address6
    return joined


def test_who_is_the_gateway() -> None:
    assert gateways([]) == ("", "") == gateways([_joined("a", internal=True)])
    assert gateways([_joined("b"), _joined("a"), _joined("0", internal=True)]) == ("a", "")
    assert gateways([_joined("a"), _joined("b", address6="fd00::1")]) == ("b", "b")
    assert gateways([_joined("a", priority=1), _joined("b", address6="fd00::1")]) == ("a", "b")
    assert gateways([_joined("a"), _joined("b", priority=1), _joined("c", priority=1)]) == ("b", "")


def test_requests() -> None:
    request = Request(
        "n",
        subnets=["10.1.0.0/16", "fd00:1::/64"],
        gateways=["fd00:1::9", "10.1.0.9"],
        ip_ranges=["10.1.5.0/24"],
        aux=["r=10.1.5.0"],
    )
    netrequest.check(request)
    assert request.ipam() == [
        {
            "Subnet": "10.1.0.0/16",
            "IPRange": "10.1.5.0/24",
            "Gateway": "10.1.0.9",
            "AuxiliaryAddresses": {"r": "10.1.5.0"},
        },
        {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::9"},
    ]
    ranged = Request("n", subnets=["10.1.0.0/16"], ip_ranges=["10.1.5.0/24"], aux=["r=10.1.5.0"])
    assert ranged.pool(4).gateway_address() == "10.1.5.1"
    assert Request("n", subnets=["fd00:1::/64"]).pool(6).gateway_address() == "fd00:1::1"


@pytest.mark.parametrize(
    "given",
    [
        {"driver": "macvlan"}, {"driver": "overlay"}, {"subnets": ["10.1.0.0/16", "10.2.0.0/16"]}, {"subnets": ["10.1.0.0/31"]},
        {"subnets": ["10.1.0.0/24"], "gateways": ["10.1.0.0"]}, {"subnets": ["10.1.0.0/24"], "gateways": ["10.1.0.1", "10.1.0.2"]},
        {"options": {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}},
        {"options": {"com.docker.network.bridge.inhibit_ipv4": "true"}},
        {"options": {"com.docker.network.driver.mtu": "-1"}},
    ],
)  # fmt: skip
def test_networks_that_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(MiniError):
        netrequest.check(Request("n", **given))


def _context(tmp_path: Path) -> Context:
    return Context(Paths(str(tmp_path / "root")), {})


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", ".", "..", "é", "x" * 256, "container:x", "_x"])
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    """A name becomes a directory: Docker's grammar of container names, which newer Dockers ask of networks, too."""
    with pytest.raises(UsageError, match="invalid network name"):
        networks.create(_context(tmp_path), Request(name))


@pytest.mark.parametrize("name", ["bridge", "host", "none", "default"])
def test_predefined_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(Conflict, match=f"not permitted on predefined {name} network"):
        networks.create(_context(tmp_path), Request(name))


def test_fsck_finds_what_is_no_network(tmp_path: Path) -> None:
    paths = _context(tmp_path).paths
    Networks(paths, "mini0", "172.29.0.0/16").list_()
    os.makedirs(paths.leases("half"))
    os.makedirs(paths.network("damaged"))
    Path(paths.network("damaged"), "network.json").write_text("{")
    os.makedirs(paths.endpoints("bridge"))
    written = Path(paths.endpoints("bridge"), ".abc.99999999.tmp")
    dead = subprocess.Popen(["true"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # a zombie
    of_zombie = written.with_name(f".abc.{dead.pid}.tmp")
    before_it = written.with_name(f".of-another.{os.getpid()}.tmp")
    for path in (written, written.with_name(f".abc.{os.getpid()}.tmp"), of_zombie, before_it):
        path.write_text("{")
    os.utime(before_it, (0, 0))
    found = {finding.what: (finding.kind, finding.action) for finding in netcheck.check(paths)}
    assert found == {
        "network half": (RUBBISH, "remove_network"),
        "network damaged": (DAMAGED, "quarantine_network"),
        **{
            f"file {path.name} of network bridge": (RUBBISH, "remove_half_written")
            for path in (written, of_zombie, before_it)
        },
    }
    dead.wait()


def test_subnets_of_ipv6() -> None:
    net = Subnet("fd00:1:2:3::7/64")
    assert str(net) == "fd00:1:2:3::/64" and net.gateway == "fd00:1:2:3::1" and net.own == ("fd00:1:2:3::",)
    assert "fd00:1:2:3:ffff::" in net and "fd00:1:2:4::" not in net and "10.0.0.1" not in net
    assert not net.overlaps(Subnet("0.0.0.0/8")) and net.overlaps(Subnet("fd00:1::/32"))
