"""Networks through both engines: what they say of them, what containers have of them, and the words of what is refused.

Both have the same subnets, so one is done and cleaned up before the other begins: `told` holds what every row said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compare.conftest import Both

pytestmark = [pytest.mark.requires("linux", "root", "netns", "docker"), pytest.mark.timeout(600)]

PREPARED = [
    "network create --subnet 10.60.0.0/24 n1",
    "network create --subnet 10.61.0.0/24 --label k=v --label e n2",
    "network create --subnet 10.62.0.0/24 --internal ni",
    "network create --subnet 10.63.0.0/24 --ipv6 --subnet fd63::/64 n6",
    "network create --subnet 10.64.0.0/24 --ip-range 10.64.0.128/25 --gateway 10.64.0.254 --aux-address a=10.64.0.128 "
    "-o com.docker.network.driver.mtu=1400 -o foo=bar --attachable --ipam-opt x=y n10",
    "run -d --name web --hostname webhost --network n1 --network-alias w1 --network-alias w2 {image} sleep 6000",
    "run -d --name six --network name=n6,ip=10.63.0.50,ip6=fd63::50,alias=sixth {image} sleep 6000",
    "run -d --name hh --network host {image} sleep 6000",
    "run -d --name nn --network none {image} sleep 6000",
    "run -d --name cc --network container:web {image} sleep 6000",
    "create --name cr --network n1 --ip 10.60.0.33 --network-alias al --link web:w {image} true",
    "create --name plain --link nn:n {image} true",
]

# What is shown, and what is refused; nothing of it changes anything. Not here, since they differ on purpose: `ls -f dangling`,
# which takes networks for unused that are in use, and `connect` to a network that is not there, which goes through where the
# container does not run.
ROWS = [
    # show
    "network inspect n1", "network inspect n2 ni", "network inspect n6", "network inspect n10", "network inspect host",
    "network inspect none", "network inspect -v n2", "network inspect -f {{.Name}}:{{.Driver}}:{{.Internal}} n1 ni",
    "network inspect -f {{json@.Labels}} n2", "network inspect nosuch n2", "network inspect -f {{.Foo}} n1",
    "network ls --format {{.Name}}\t{{.Driver}}\t{{.Scope}}\t{{.IPv6}}\t{{.Internal}}",
    "network ls --format table@{{.Name}}\t{{.IPv6}}", "network ls --format {{.Label@\"k\"}}",
    "network ls --filter driver=bridge --filter name=n1 --format {{.Name}}", "network ls -f name=^n.$ --format {{.Name}}",
    "network ls -f name=n1 -f name=n2 --format {{.Name}}", "network ls -f label=k --format {{.Name}}",
    "network ls -f label=k=v -f label=e --format {{.Name}}", "network ls -f label=k=x --format {{.Name}}",
    "network ls -f type=builtin --format {{.Name}}", "network ls -f type=custom --format {{.Name}}",
    "network ls -f scope=local -f scope=x --format {{.Name}}", "network ls -f scope=x", "network ls -f driver=foo",
    "network ls -f foo=bar",
    "network ls -f type=foo", "network ls -f dangling=foo", "network ls x",
    "inspect -f {{json@.NetworkSettings}} web", "inspect -f {{json@.NetworkSettings}} six",
    "inspect -f {{json@.NetworkSettings}} hh", "inspect -f {{json@.NetworkSettings}} nn",
    "inspect -f {{json@.NetworkSettings}} cc", "inspect -f {{json@.NetworkSettings}} cr",
    "inspect -f {{json@.HostConfig.Links}} plain cr",
    "ps --filter network=n1 --format {{.Names}}:{{.Networks}}", "ps -a --filter network=n1 --format {{.Names}}:{{.Networks}}",
    "ps -a --filter network=nosuch --format {{.Names}}", "exec web cat /etc/hosts", "exec six cat /etc/hosts",
    "exec web ip -o -4 route", "exec six ip -o -6 route show default", "exec six ip -o -4 address show eth0",
    "run --rm --network n1 --add-host x:1.2.3.4 --ip 10.60.0.9 -h me --domainname d.org {image} cat /etc/hosts",
    "run --rm --network n10 {image} ip -o -4 address show eth0",
    # refuse
    "network create n1", "network create bridge", "network create host", "network create none", "network create default",
    "network create", "network create x y", "network create -d bogus x", "network create -d host x", "network create -d null x",
    "network create --ipam-driver bogus x", "network create --subnet 10.65.0 x", "network create --subnet 10.60.0.128/25 x",
    "network create --subnet 10.65.0.0/24 --subnet 10.66.0.0/24 x", "network create --subnet 10.65.0.0/24 --subnet 10.65.0.0/25 x",
    "network create --subnet 10.65.0.0/24 --gateway 10.66.0.1 x", "network create --subnet 10.65.0.0/24 --ip-range 10.66.0.0/25 x",
    "network create --gateway 10.65.0.1 x", "network create --ip-range 10.65.0.0/24 x",
    "network create --aux-address a=10.65.0.1 x", "network create --subnet 10.65.0.0/24 --aux-address a=10.66.0.1 x",
    "network create --subnet 10.65.0.0/24 --gateway 10.65.0.0 x", "network create --subnet 10.65.0.0/24 --gateway 10.65.0.255 x",
    "network create --subnet 10.65.0.0/31 x", "network create -o com.docker.network.driver.mtu=xx x",
    "network create -o com.docker.network.bridge.enable_icc=xx x",
    "network create -o com.docker.network.bridge.enable_ip_masquerade=no x",
    "network rm nosuch", "network rm bridge", "network rm -f host", "network rm -f nosuch", "network rm n1", "network rm -f n1",
    "network rm", "network connect nosuch web", "network connect n1 nosuch", "network connect n1 web", "network connect n1",
    "network connect host web", "network connect none web", "network connect n1 hh", "network connect n1 nn",
    "network connect n1 cc", "network connect --ip 10.99.9.9 n2 web", "network connect --ip 10.61.0.1 n2 web",
    "network connect --alias x bridge web", "network connect --ip 10.214.0.9 bridge web", "network connect --driver-opt xx n2 web",
    "network disconnect nosuch web", "network disconnect n1 nosuch", "network disconnect n2 web", "network disconnect -f n2 web",
    "network disconnect n1 cc", "network disconnect n2 plain", "network prune -f --filter foo=bar",
    "network prune -f --filter label=nosuch", "network prune -f --filter until=1h",
    "run --rm --network nosuch {image} true", "run --rm --network n1 --ip 10.99.0.5 {image} true",
    "run --rm --network n1 --ip xx {image} true", "run --rm --network n1 --ip 10.60.0.1 {image} true",
    "run --rm --network n1 --ip 10.60.0.2 {image} true", "run --rm --network n1 --ip6 fd00::5 {image} true",
    "run --rm --ip 10.214.0.9 {image} true", "run --rm --network host --ip 10.214.0.9 {image} true",
    "run --rm --network-alias x {image} true", "run --rm --network none --network-alias x {image} true",
    "run --rm --network host --network n1 {image} true", "run --rm --network n1 --network n1 {image} true",
    "run --rm --network name=n1,foo=x {image} true", "run --rm --network alias=x {image} true",
    "run --rm --network name=n1,ip {image} true", "run --rm --network name=n1,driver-opt=xx {image} true",
    "run --rm --network name=n1,gw-priority=x {image} true", "run --rm --network name=n1,alias=x --network-alias y {image} true",
    "run --rm --network name=n1,ip=10.60.0.5 --ip 10.60.0.6 {image} true", "run --rm --network name=bridge,alias=x {image} true",
    "run --rm --mac-address xx {image} true", "run --rm --link nosuch {image} true", "run --rm --link a:b:c {image} true",
    "run --rm --network host --link x {image} true", "run --rm --network container:web --link x {image} true",
    "run --rm --link web:w {image} true",
]  # fmt: skip

# what changes, one after the other, each with what is seen then
CHANGES = [
    "network connect n2 web", "inspect -f {{json@.NetworkSettings}} web", "exec web cat /etc/hosts", "exec web ip -o -4 route",
    "network connect --alias a --ip 10.63.0.60 --ip6 fd63::60 n6 web", "inspect -f {{json@.NetworkSettings}} web",
    "exec web cat /etc/hosts", "exec web ip -o -4 route", "exec web ip -o -6 route show default", "network inspect n6",
    "network disconnect n6 web", "exec web ip -o -4 route", "network disconnect n1 web", "exec web ip -o -4 route",
    "network disconnect n2 web", "exec web ip -o -4 route", "inspect -f {{json@.NetworkSettings}} web",
    "network connect --driver-opt a=b --link six:s n1 web", "inspect -f {{json@.NetworkSettings}} web",
    "network rm n1", "stop -t 0 cc web", "inspect -f {{json@.NetworkSettings}} web", "network inspect -f {{json@.Containers}} n1",
    "network connect n2 web", "network disconnect n1 web", "network disconnect n1 web", "network rm n1 n2 nosuch", "start web",
    "network connect ni plain", "inspect -f {{json@.NetworkSettings.Networks}} plain",
    "network prune -f", "network ls -f type=custom --format {{.Name}}", "system prune -f",
]  # fmt: skip


def _run(engine: Any, image: str, row: str) -> dict[str, Any]:
    """An `@` stands for a blank within an argument."""
    words = [word.replace("@", " ").replace("{image}", image) for word in row.split(" ")]
    result = engine.run(*words, check=False)
    first = result.stderr.lstrip("\n").split("\n")[0]
    said = re.sub(r"^(docker: |mini: |Error response from daemon: )+", "", first)
    return {"code": result.code, "stdout": _plain(result.stdout), "said": _plain(said)}


def _plain(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{64}\b", "<ID>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "<time>", text)
    text = re.sub(r"10\.21[34]\.\d+\.", "<default>.", text)
    text = text.replace("'mini ", "'docker ").replace("mini network", "docker network")
    text = re.sub(r'"Sandbox(ID|Key)":"[^"]*"', '"Sandbox":""', text)
    text = re.sub(r"^\d+: eth", "eth", text)
    text = re.sub(r"Total reclaimed space: .*", "Total reclaimed space: …", text)
    # fields that are newer than the daemon here
    text = re.sub(r'\s*"EnableIPv4": ?(true|false),', "", text)
    text = re.sub(r'"DNSNames":(null|\[[^]]*\])', '"DNSNames":…', text)
    return text


@pytest.fixture(scope="module")
def told(engines: Both) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Of both engines, what every row said; then what every change said."""
    found: dict[str, list[dict[str, Any]]] = {}
    image = engines.names["host"]
    for name, engine in (("docker", engines.docker), ("mini", engines.mini)):
        try:
            for row in PREPARED:
                assert _run(engine, image, row)["code"] == 0, row
            found[name] = [_run(engine, image, row) for row in [*ROWS, *CHANGES]]
        finally:
            engine.remove_containers()
            engine.remove_networks()
    yield found


@pytest.mark.parametrize("number", range(len(ROWS)), ids=ROWS)
def test_row(told: dict[str, list[dict[str, Any]]], number: int) -> None:
    _same(told, number)


@pytest.mark.parametrize("number", range(len(CHANGES)), ids=[f"{i} {row}" for i, row in enumerate(CHANGES)])
def test_change(told: dict[str, list[dict[str, Any]]], number: int) -> None:
    _same(told, len(ROWS) + number)


def _same(told: dict[str, list[dict[str, Any]]], number: int) -> None:
    docker, mini = told["docker"][number], told["mini"][number]
    assert _read(mini) == _read(docker)


def _pairs(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """An object, in no order, of which several keys may be `<ID>`."""
    return sorted(pairs, key=repr)


def _read(result: dict[str, Any]) -> dict[str, Any]:
    """JSON as what it says: the order of its fields is no matter here. Nor is that of what was pruned: Docker has none."""
    if "Deleted Networks" in result["stdout"]:
        return result | {"stdout": sorted(result["stdout"].split("\n"))}
    try:
        return result | {"stdout": json.loads(result["stdout"], object_pairs_hook=_pairs)}
    except ValueError:
        return result
