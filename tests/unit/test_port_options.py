"""`-p`, `--expose` and `--publish-rm` as text; the words of what is refused are compared with Docker's in tests/compare."""

from __future__ import annotations

import pytest

from engine.cli.commands.ps import ports
from engine.containers import portoptions
from engine.errors import UsageError
from engine.runtime.network import portrules


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("8080:80/UDP", {"80/udp": [("", "8080")]}),
        ("127.0.0.1::80", {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", {"80/tcp": [("::1", "8080")]}),
        ("8000-8001:80-81", {"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]}),
        ("8000-8010:80", {"80/tcp": [("", "8000-8010")]}),
        ("published=8080,target=80,protocol=udp", {"80/udp": [("", "8080")]}),
    ],
)
def test_bindings(spec: str, expected: dict[str, list[tuple[str, str]]]) -> None:
    found = portoptions.bindings([spec])
    assert {port: [(b["HostIp"], b["HostPort"]) for b in there] for port, there in found.items()} == expected


@pytest.mark.parametrize(
    "spec",
    [
        "",
        ":",
        "x",
        "80:",
        "1:2:3:4",
        "80/sctp",
        "80/x",
        "-1",
        "65536",
        "80-79",
        "1.2.3.4",
        "[::1:80",
        "256.1.1.1:80:80",
        "8 0",
    ]
    + ["٨٠", "80:80:80", "a=b", "target=80,x", "published=1-2,target=1-3", "1e1", "0x50", "127.0.0.1:80:"],
)
def test_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        portoptions.bindings([spec])


def test_exposed_are_the_images_the_asked_and_the_published() -> None:
    found = portoptions.exposed(["90-91", "53/udp"], {"443/tcp": {}}, ["80/tcp"])
    assert list(found) == ["443/tcp", "53/udp", "80/tcp", "90/tcp", "91/tcp"]


def test_without() -> None:
    published = portoptions.bindings(["8080:80", "8081:80", "127.0.0.1:53:53/udp"])
    assert portoptions.without(published, ["8080:80"]) == portoptions.bindings(["8081:80", "127.0.0.1:53:53/udp"])
    assert portoptions.without(published, ["80", "53/udp"]) == {}
    for missing in ("8082:80", "53", "0.0.0.0:8080:80"):
        with pytest.raises(UsageError, match="is not published"):
            portoptions.without(published, [missing])


def test_the_column_of_ps() -> None:
    def at(*places: tuple[str, str]) -> list[dict[str, str]]:
        return [{"HostIp": address, "HostPort": port} for address, port in places]

    assert ports({}) == ""
    assert ports({"80/tcp": None, "81/tcp": None, "90/udp": None}) == "80-81/tcp, 90/udp"
    assert ports({"80/tcp": at(("0.0.0.0", "8080"), ("::", "8080"))}) == "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    range_ = {f"{n}/tcp": at(("0.0.0.0", str(n))) for n in (8000, 8001, 8003)}
    assert ports(range_) == "0.0.0.0:8000-8001->8000-8001/tcp, 0.0.0.0:8003->8003/tcp"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_a_loopback_address_has_no_element(address: str) -> None:
    to = ("fd00::2" if ":" in address else "172.29.0.2", 80)
    assert portrules.element("tcp", (address, 8080), to, "x") is None


def test_elements() -> None:
    element = portrules.element("tcp", ("0.0.0.0", 8080), ("172.29.0.2", 80), "owner")
    assert element and (element.map.name, element.text) == ("any4", "tcp . 8080 : 172.29.0.2 . 80")
    assert (element.key.hex(), element.value.hex()) == ("060000001f900000", "ac1d000200500000")
    named = portrules.element("udp", ("2001:db8::1", 53), ("fd00::2", 53), "owner")
    assert named and (named.map.name, len(named.key), len(named.value)) == ("ports6", 24, 20)
    assert portrules.element("tcp", ("::", 8080), ("172.29.0.2", 80), "x") is None, "the proxy's: another family"
