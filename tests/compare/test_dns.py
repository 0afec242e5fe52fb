"""Names through both engines: the same questions to 127.0.0.11, on a network of the user's own, and what is answered.

The nameserver of the host is dnsmasq on an address of the bridge, so both have the same to ask outside.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compare.conftest import Both

pytestmark = [pytest.mark.requires("linux", "root", "netns", "docker", "dnsmasq", "dig"), pytest.mark.timeout(300)]

# Asks one question and prints (answer code, flags that matter, what is answered): no resolver of the image's is in between.
ASK = r"""
import json, socket, struct, sys
KINDS = {"A": 1, "PTR": 12, "TXT": 16, "AAAA": 28}
def labels(data, at):
    found, jumped = [], None
    while data[at]:
        if data[at] >= 192:
            jumped = jumped or at + 2
            at = (data[at] & 63) << 8 | data[at + 1]
            continue
        found.append(data[at + 1:at + 1 + data[at]].decode())
        at += 1 + data[at]
    return ".".join(found), jumped or at + 1
def ask(name, kind, tcp):
    question = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0" + struct.pack("!HH", KINDS[kind], 1)
    message = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + question
    if tcp:
        with socket.create_connection(("127.0.0.11", 53), 12) as s:
            s.sendall(struct.pack("!H", len(message)) + message)
            file = s.makefile("rb")
            data = file.read(struct.unpack("!H", file.read(2))[0])
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(12)
            s.sendto(message, ("127.0.0.11", 53))
            data = s.recv(4096)
    _, flags, _, count, _, _ = struct.unpack_from("!6H", data)
    at = 12 + len(question)
    answers = []
    for _ in range(count):
        _, at = labels(data, at)
        kind_, _, ttl, size = struct.unpack_from("!HHIH", data, at)
        at += 10
        raw = data[at:at + size]
        shown = {1: lambda: socket.inet_ntop(2, raw), 28: lambda: socket.inet_ntop(10, raw), 12: lambda: labels(data, at)[0]}
        answers.append([kind_, shown.get(kind_, raw.decode)()])
        at += size
    return [flags & 15, sorted(answers)]
print(json.dumps([ask(*q) for q in json.loads(sys.argv[1])]))
"""

SHOP, INNER = "10.66.0", "10.67.0"
PREPARED = [
    f"network create --subnet {SHOP}.0/24 shop",
    f"network create --subnet {INNER}.0/24 --internal inner",
    "network create --subnet 10.68.0.0/24 apart",
    f"run -d --name db --network shop --ip {SHOP}.10 --network-alias database --network-alias all {{image}} sleep 1000",
    f"run -d --name db2 --network shop --ip {SHOP}.11 --network-alias all {{image}} sleep 1000",
    f"run -d --name inside --network inner --ip {INNER}.10 {{image}} sleep 1000",
    "run -d --name stranger --network apart --ip 10.68.0.10 {image} sleep 1000",
]
# the name, the type, and whether over TCP
QUESTIONS = [
    ("db", "A", False), ("db", "A", True), ("db.shop", "A", False), ("database", "A", False),
    ("all", "A", False), ("asker", "A", False), ("db", "AAAA", False), ("stranger", "A", False),
    ("10.0.66.10.in-addr.arpa", "PTR", False), ("10.0.68.10.in-addr.arpa", "PTR", False),
    ("known.test", "A", False), ("known.test", "A", True), ("known.test", "AAAA", False), ("text.test", "TXT", False),
    ("unknown.test", "A", False), ("inside", "A", False), ("7.2.0.192.in-addr.arpa", "PTR", False),
]  # fmt: skip
# What is known on the internal network. Of all else mini says that there is no such name; Docker 20.10 asks the nameserver outside,
# which is how data leaves an internal network (CVE-2024-29018; Dockers since 26.0 do not).
INSIDE = ("asker", "inside")


def _ask(engine: Any, image: str, network: str, address: str) -> Any:
    words = ["run", "--rm", "--name", "asker", "--network", network, "--ip", address, "--dns", f"{SHOP}.1"]
    return json.loads(engine.run(*words, image, "python3", "-c", ASK, json.dumps(QUESTIONS), timeout=250).stdout)


@pytest.fixture(scope="module")
def answers(engines: Both) -> Iterator[dict[str, dict[str, Any]]]:
    """By engine and network, the answer to each question; and the container's resolv.conf."""
    found: dict[str, dict[str, Any]] = {}
    image = engines.names["host"]
    for name, engine in (("docker", engines.docker), ("mini", engines.mini)):
        nameserver = None
        try:
            for row in PREPARED:
                engine.run(*(word.format(image=image) for word in row.split()))
            nameserver = _nameserver(f"{SHOP}.1")
            said = engine.run(
                "run", "--rm", "--network", "shop", "--dns-search", "a.test", image, "cat", "/etc/resolv.conf"
            ).stdout
            found[name] = {
                "shop": _ask(engine, image, "shop", f"{SHOP}.20"),
                "inner": _ask(engine, image, "inner", f"{INNER}.20"),
                "resolv.conf": [line for line in said.splitlines() if line and not line.startswith("#")],
            }
        finally:
            if nameserver:
                nameserver.kill()
                nameserver.wait()
            engine.remove_containers()
            engine.remove_networks()
    yield found


def _nameserver(address: str) -> subprocess.Popen[bytes]:
    command = [
        "dnsmasq",
        "-k",
        "-C",
        "/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--bind-interfaces",
    ]
    command += [
        f"--listen-address={address}",
        "--except-interface=lo",
        "--address=/known.test/192.0.2.7",
        "--local=/unknown.test/",
    ]
    command += ["--txt-record=text.test,hello", "--ptr-record=7.2.0.192.in-addr.arpa,seven.test"]
    server = subprocess.Popen(command)
    for _ in range(200):
        asked = subprocess.run(
            ["dig", "+short", "+tries=1", "+time=1", f"@{address}", "known.test"], capture_output=True, text=True
        )
        if "192.0.2.7" in asked.stdout:
            return server
        time.sleep(0.02)
    server.kill()
    server.wait()
    raise AssertionError("dnsmasq does not answer")


@pytest.mark.parametrize("network", ["shop", "inner"])
@pytest.mark.parametrize("number", range(len(QUESTIONS)), ids=[" ".join(map(str, q)) for q in QUESTIONS])
def test_answers(answers: dict[str, dict[str, Any]], network: str, number: int) -> None:
    docker, mini = (answers[engine][network][number] for engine in ("docker", "mini"))
    if network == "inner" and QUESTIONS[number][0] not in INSIDE:
        assert mini == [3, []]
        assert docker != mini or QUESTIONS[number][0] == "unknown.test", (
            "Docker does not ask outside by now: compare it"
        )
    else:
        assert mini == docker


def test_resolv_conf(answers: dict[str, dict[str, Any]]) -> None:
    assert answers["mini"]["resolv.conf"] == answers["docker"]["resolv.conf"]
