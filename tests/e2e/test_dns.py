"""Names in containers, as a user meets them: `web` is found, on the default bridge too, and whoever comes and goes."""

from __future__ import annotations

import pytest

from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns")

_FIND = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
_REVERSE = "import socket, sys; print(socket.gethostbyaddr(sys.argv[1])[0])"


def _find(mini: Mini, image: Image, name: str, program: str = _FIND) -> str | None:
    done = mini.run("run", "--rm", image.name, "python3", "-c", program, name, check=False)
    return done.out.strip() if done.code == 0 else None


def test_names_and_short_ids_on_the_default_bridge(mini: Mini, host_image: Image) -> None:
    container = mini.detached("--name", "web", host_image.name, "sleep", "100")
    address = mini.address("web")
    assert _find(mini, host_image, "web") == address
    assert _find(mini, host_image, container[:12]) == address
    assert _find(mini, host_image, address, _REVERSE) == "web.bridge"
    assert _find(mini, host_image, "nobody") is None


def test_a_name_is_found_by_who_runs_already_and_goes_with_its_container(mini: Mini, host_image: Image) -> None:
    mini.detached("--name", "client", host_image.name, "sleep", "100")

    def ask() -> str:
        return mini.run("exec", "client", "python3", "-c", _FIND, "late", check=False).out.strip()

    assert ask() == ""
    mini.detached("--name", "late", host_image.name, "sleep", "100")
    assert ask() == mini.address("late")
    mini.run("rename", "late", "later")
    assert mini.run("exec", "client", "python3", "-c", _FIND, "later").out.strip() == mini.address("later")
    mini.run("restart", "-t", "0", "later")
    assert mini.run("exec", "client", "python3", "-c", _FIND, "later").out.strip() == mini.address("later")
    mini.run("kill", "later")
    mini.run("wait", "later")
    assert mini.run("exec", "client", "python3", "-c", _FIND, "later", check=False).code != 0


def test_the_resolver_is_there_after_a_restart(mini: Mini, host_image: Image) -> None:
    mini.detached("--name", "web", host_image.name, "sleep", "100")
    mini.run("restart", "-t", "0", "web")
    assert mini.run("exec", "web", "python3", "-c", _FIND, "web").out.strip() == mini.address("web")


def test_resolv_conf_names_the_resolver_and_what_was_asked_for(mini: Mini, image: Image) -> None:
    said = mini.run("run", "--rm", "--dns-search", "example.test", image.name, "cat", "/etc/resolv.conf").out
    assert said.splitlines() == ["search example.test", "nameserver 127.0.0.11", "options ndots:0"]
    said = mini.run("run", "--rm", "--dns-option", "ndots:2", image.name, "cat", "/etc/resolv.conf").out
    assert "options ndots:2" in said.splitlines() and "ndots:0" not in said


def test_who_shares_a_network_namespace_shares_the_resolver(mini: Mini, host_image: Image) -> None:
    mini.detached("--name", "web", host_image.name, "sleep", "100")
    done = mini.run("run", "--rm", "--network", "container:web", host_image.name, "python3", "-c", _FIND, "web")
    assert done.out.strip() == mini.address("web")


def test_without_a_network_there_is_no_resolver(mini: Mini, image: Image) -> None:
    said = mini.run("run", "--rm", "--network", "none", image.name, "cat", "/etc/resolv.conf").out
    assert "127.0.0.11" not in said
