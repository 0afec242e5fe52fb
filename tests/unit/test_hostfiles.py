"""/etc/hosts and /etc/resolv.conf, as Docker 20.10 wrote them in the same situations."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.runtime.network import hostfiles

LOCALHOST = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
HOST_RESOLV = "# c1\nnameserver 127.0.0.1\nsearch example.test foo.test\nnameserver 127.0.0.11\noptions ndots:2 edns0\n"
PUBLIC = "\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_hosts_ends_in_the_containers_own_line() -> None:
    assert hostfiles.hosts("0b402b705e78", ["172.17.0.2"]) == LOCALHOST + "172.17.0.2\t0b402b705e78\n"


def test_hosts_without_a_network() -> None:
    assert hostfiles.hosts("x") == LOCALHOST


def test_hosts_with_a_qualified_name_and_additions() -> None:
    extra = ["x:1.2.3.4", "h:host-gateway", "six:fd00::1"]
    text = hostfiles.hosts("a.b.c", ["172.17.0.2"], extra, gateway="172.17.0.1")
    assert text == LOCALHOST + "1.2.3.4\tx\n172.17.0.1\th\nfd00::1\tsix\n172.17.0.2\ta.b.c a\n"


def test_hosts_of_the_host_network_are_the_hosts_own_unless_something_is_added() -> None:
    own = "127.0.0.1 localhost\n10.0.0.9 myhost"
    assert hostfiles.hosts("x", base=own) == own
    assert hostfiles.hosts("x", extra_hosts=["x:1.2.3.4"], base=own) == LOCALHOST + "1.2.3.4\tx\n"


@pytest.mark.parametrize(
    ("host", "container"),
    [
        (HOST_RESOLV, "# c1\nsearch example.test foo.test\noptions ndots:2 edns0\n" + PUBLIC),
        ("nameserver 127.0.0.53\nsearch x.test\n", "search x.test\n" + PUBLIC),
        (
            "nameserver 1.2.3.4\nnameserver 127.0.0.1\n\nnameserver fe80::1\nsearch x.test\n",
            "nameserver 1.2.3.4\nsearch x.test\n",
        ),
        ("", PUBLIC),
        ("  nameserver   127.0.0.1\nnameserver 9.9.9.9", "nameserver 9.9.9.9"),
        ("# nameserver 127.0.0.1\nnameserver 9.9.9.9\n\n", "# nameserver 127.0.0.1\nnameserver 9.9.9.9\n\n"),
    ],
)
def test_resolv_conf_without_the_hosts_loopback(host: str, container: str) -> None:
    assert hostfiles.resolv_conf(host, "bridge") == container
    assert hostfiles.resolv_conf(host, "null") == container


def test_resolv_conf_of_the_host_network_is_verbatim() -> None:
    assert hostfiles.resolv_conf(HOST_RESOLV, "host") == HOST_RESOLV
    changed = hostfiles.resolv_conf(HOST_RESOLV, "host", search=["a.test"])
    assert changed == "search a.test\nnameserver 127.0.0.1\nnameserver 127.0.0.11\noptions ndots:2 edns0\n"


@pytest.mark.parametrize(
    ("given", "container"),
    [
        ({"dns": ["9.9.9.9"]}, "search example.test foo.test\nnameserver 9.9.9.9\noptions ndots:2 edns0\n"),
        ({"dns": ["127.0.0.1"], "search": ["."]}, "nameserver 127.0.0.1\noptions ndots:2 edns0\n"),
        (
            {"search": ["a.test", "b.test"]},
            "search a.test b.test\nnameserver 8.8.8.8\nnameserver 8.8.4.4\noptions ndots:2 edns0\n",
        ),
        (
            {"options": ["ndots:9"]},
            "search example.test foo.test\nnameserver 8.8.8.8\nnameserver 8.8.4.4\noptions ndots:9\n",
        ),
    ],
)
def test_options_replace_the_hosts_one_by_one(given: dict[str, list[str]], container: str) -> None:
    assert hostfiles.resolv_conf(HOST_RESOLV, "bridge", **given) == container


@pytest.mark.parametrize(
    ("etc", "chosen"),
    [
        ("nameserver 127.0.0.53\noptions edns0\n", "nameserver 10.0.0.2\n"),
        ("nameserver 127.0.0.53\nnameserver 1.2.3.4\n", None),
        ("nameserver 127.0.0.1\n", None),
    ],
)
def test_the_stub_of_systemd_resolved_is_looked_behind(tmp_path: Path, etc: str, chosen: str | None) -> None:
    (tmp_path / "etc").write_text(etc)
    (tmp_path / "systemd").write_text("nameserver 10.0.0.2\n")
    assert hostfiles.host_resolv_conf(str(tmp_path / "etc"), str(tmp_path / "systemd")) == (chosen or etc)
    missing = str(tmp_path / "missing")
    assert hostfiles.host_resolv_conf(str(tmp_path / "etc"), missing) == etc
    assert hostfiles.host_resolv_conf(missing, missing) == ""
