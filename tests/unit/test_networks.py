"""The records of networks: three that always exist, found by name, ID or prefix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import Conflict, MiniError, NotFound, UsageError
from engine.paths import Paths
from engine.runtime.network.model import Endpoint, Network, Networks


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "root"))


def _networks(paths: Paths, bridge: str = "mini0", subnet: str = "172.29.0.0/16") -> Networks:
    return Networks(paths, bridge, subnet)


def _add(paths: Paths, network: Network) -> None:
    directory = Path(paths.network(network.name))
    directory.mkdir(parents=True)
    (directory / "network.json").write_text(json.dumps(network.to_json()))


def test_three_always_exist_and_keep_their_ids(paths: Paths) -> None:
    first = _networks(paths).list_()
    assert [(n.name, n.driver) for n in first] == [("bridge", "bridge"), ("host", "host"), ("none", "null")]
    assert all(len(n.id) == 64 for n in first)
    assert [n.id for n in _networks(paths).list_()] == [n.id for n in first]


def test_found_by_name_id_and_prefix(paths: Paths) -> None:
    networks = _networks(paths)
    bridge = networks.get("bridge")
    assert (bridge.bridge, bridge.subnet, bridge.gateway) == ("mini0", "172.29.0.0/16", "172.29.0.1")
    assert networks.get(bridge.id).name == networks.get(bridge.id[:20]).name == "bridge"
    assert networks.get(bridge.id).to_json() == bridge.to_json()


@pytest.mark.parametrize("name", ["nosuch", "../bridge", "a/b", ".", "xyz"])
def test_not_found_in_dockers_words(paths: Paths, name: str) -> None:
    with pytest.raises(NotFound, match=f"^network {name} not found$"):
        _networks(paths).get(name)


def test_no_name_is_not_one_that_is_missing(paths: Paths) -> None:
    with pytest.raises(MiniError, match="value is empty"):
        _networks(paths).get("")


def test_an_ambiguous_prefix_and_a_name_that_is_one(paths: Paths) -> None:
    for name, digit in (("first", "1"), ("second", "2"), ("ab", "3")):
        _add(
            paths, Network(name, "ab" * 10 + digit * 44, "bridge", "", bridge=f"br{digit}", subnet=f"10.{digit}.0.0/24")
        )
    networks = _networks(paths)
    assert networks.get("ab").name == "ab", "a name goes before a prefix"
    assert networks.get("ab" * 10 + "2").name == "second"
    with pytest.raises(Conflict, match="network abab is ambiguous"):
        networks.get("abab")
    assert [n.name for n in networks.list_()] == ["ab", "bridge", "first", "host", "none", "second"]


def test_settings_win_over_the_record_of_the_default_network(paths: Paths) -> None:
    before = _networks(paths).get("bridge")
    after = _networks(paths, "mini7", "10.88.0.0/24").get("bridge")
    assert (after.id, after.created) == (before.id, before.created)
    assert (after.bridge, after.subnet, after.gateway) == ("mini7", "10.88.0.0/24", "10.88.0.1")
    assert after.options["com.docker.network.bridge.name"] == "mini7"


def test_an_unusable_subnet_setting_is_told(paths: Paths) -> None:
    with pytest.raises(UsageError, match="invalid subnet '10.88'"):
        _networks(paths, subnet="10.88").get("bridge")


def test_inspect_as_docker_prints_it(paths: Paths) -> None:
    networks = _networks(paths)
    network = networks.get("bridge")
    endpoint = Endpoint(
        "bridge", network.id, "e" * 64, "172.29.0.2", 16, "172.29.0.1", "02:42:ac:1d:00:02", "eth0", "v"
    )
    shown = networks.inspect(network, [("c" * 64, "web", Endpoint.from_json(endpoint.to_json()))])
    assert (
        list(shown)
        == (
            "Name Id Created Scope Driver EnableIPv4 EnableIPv6 IPAM Internal Attachable Ingress ConfigFrom ConfigOnly "
            "Containers Options Labels"
        ).split()
    )
    assert shown["IPAM"] == {
        "Driver": "default",
        "Options": None,
        "Config": [{"Subnet": "172.29.0.0/16", "Gateway": "172.29.0.1"}],
    }
    assert shown["Containers"] == {
        "c" * 64: {
            "Name": "web",
            "EndpointID": "e" * 64,
            "MacAddress": "02:42:ac:1d:00:02",
            "IPv4Address": "172.29.0.2/16",
            "IPv6Address": "",
        }
    }
    assert networks.inspect(networks.get("none"))["IPAM"]["Config"] == []
