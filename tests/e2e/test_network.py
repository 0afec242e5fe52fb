"""Networks: an address on the bridge, ways between containers and the host, outward, and none at all."""

from __future__ import annotations

import http.server
import ipaddress
import os
import re
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.support.images import Image
from tests.support.isolation import set_up
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("linux", "root", "netns", "iproute2")

_FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode(), end='')"
_PEER = """\
import http.server
class Peer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(self.client_address[0].encode())
    def log_message(self, *_): pass
server = http.server.HTTPServer(("", 80), Peer)
print("ready", flush=True)
server.serve_forever()
"""


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from the host to " + self.client_address[0].encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host_server() -> Iterator[int]:
    """An HTTP server on every address of the test's network namespace; its port."""
    with http.server.ThreadingHTTPServer(("", 0), _Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def outside() -> Iterator[str]:
    """A host beyond this one, on a link of its own, that knows no way to the containers' subnet; its address."""
    process = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", "echo; read go; exec python3 -c \"$1\"", "sh", _PEER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    try:
        _ip(f"link add outer0 type veth peer name peer0 netns {process.pid}")
        _ip("address add 192.0.2.1/24 dev outer0")
        set_up("outer0")
        enter = ["nsenter", "-t", str(process.pid), "-n", "ip"]
        subprocess.run([*enter, "address", "add", "192.0.2.2/24", "dev", "peer0"], check=True)
        subprocess.run([*enter, "link", "set", "peer0", "up"], check=True)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        yield "192.0.2.2"
    finally:
        _ip("link delete outer0")  # before the namespace of its other end goes, and takes it along
        process.kill()
        process.communicate()


def _ip(arguments: str) -> str:
    return subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, text=True).stdout


def _serve(mini: Mini, image: Image, *options: str) -> str:
    """A container with an HTTP server that is answering on port 80; its ID."""
    script = (
        "import http.server as h; s = h.HTTPServer(('', 80), h.SimpleHTTPRequestHandler); print('ready', flush=True)"
    )
    container = mini.detached(*options, "-w", "/srv", image.name, "python3", "-c", f"{script}; s.serve_forever()")
    follow = mini.start("logs", "-f", container)
    assert follow.stdout is not None and follow.stdout.readline() == "ready\n"
    follow.kill()
    follow.communicate()
    return container


def test_an_address_on_the_bridge(mini: Mini, image: Image) -> None:
    container = mini.detached(image.name, "sleep", "60")
    address = ipaddress.ip_address(mini.address(container))
    subnet = ipaddress.ip_network(mini.subnet)
    assert address in subnet
    assert address not in (subnet[0], subnet[1], subnet[-1])
    shown = mini.run("exec", container, "ip", "-4", "-o", "addr", "show", "eth0").out
    assert f"inet {address}/{subnet.prefixlen} " in shown
    route = mini.run("exec", container, "ip", "route").lines[0]
    assert route.startswith(f"default via {subnet[1]} dev eth0")
    assert f"inet {subnet[1]}/{subnet.prefixlen} " in _ip(f"-4 -o address show {mini.bridge}")


def test_container_to_container(mini: Mini, host_image: Image) -> None:
    server = _serve(mini, host_image)
    url = f"http://{mini.address(server)}/"
    out = mini.run("run", "--rm", host_image.name, "python3", "-c", _FETCH, f"{url}index.html").out
    assert out == "hello from a container"


def test_host_to_container(mini: Mini, host_image: Image) -> None:
    server = _serve(mini, host_image)
    out = subprocess.run(
        ["python3", "-c", _FETCH, f"http://{mini.address(server)}/index.html"], capture_output=True, text=True
    )
    assert out.stdout == "hello from a container\n"


def test_container_to_host(mini: Mini, host_image: Image, host_server: int) -> None:
    gateway = ipaddress.ip_network(mini.subnet)[1]
    out = mini.run("run", "--rm", host_image.name, "python3", "-c", _FETCH, f"http://{gateway}:{host_server}/").out
    address = out.removeprefix("hello from the host to ")
    assert ipaddress.ip_address(address) in ipaddress.ip_network(mini.subnet)  # its own address, not a translated one


def test_outward_through_nat(mini: Mini, host_image: Image, outside: str) -> None:
    """The host outside has no route back: it can answer only to the address of this host that NAT gives."""
    out = mini.run("run", "--rm", host_image.name, "python3", "-c", _FETCH, f"http://{outside}/").out
    assert out == "192.0.2.1"


def test_network_none(mini: Mini, image: Image) -> None:
    out = mini.run("run", "--rm", "--network", "none", image.name, "cat", "/proc/net/dev").lines[2:]
    assert [line.split(":")[0].strip() for line in out if _is_made_by_mini(line)] == ["lo"]


def _is_made_by_mini(line: str) -> bool:
    """Some kernels put idle tunnel devices into every network namespace."""
    return not re.match(r"\s*(tunl|sit|ip6tnl|gre|gretap|erspan|ip6gre|ip_vti|ip6_vti)\d", line)


def test_network_host(mini: Mini, image: Image) -> None:
    out = mini.run("run", "--rm", "--network", "host", image.name, "readlink", "/proc/self/ns/net").out
    assert out == os.readlink("/proc/self/ns/net")


def test_loopback_is_up_and_its_own(mini: Mini, host_image: Image, host_server: int) -> None:
    script = (
        "import socket, sys\n"
        "with socket.create_server(('127.0.0.1', 0)) as s: socket.create_connection(s.getsockname()).close()\n"
        "sys.exit(socket.socket().connect_ex(('127.0.0.1', int(sys.argv[1]))))"
    )
    result = mini.run("run", "--rm", host_image.name, "python3", "-c", script, str(host_server), check=False)
    assert (result.code, result.stderr) == (111, "")  # ECONNREFUSED: the host's server is not there


def test_addresses_are_unique_and_come_back(mini: Mini, host_image: Image) -> None:
    containers = [mini.detached(host_image.name, "sleep", "60") for _ in range(3)]
    addresses = [mini.address(container) for container in containers]
    assert len(set(addresses)) == 3
    mini.run("rm", "-f", *containers)
    leases = f"{mini.root}/networks/bridge/leases"
    assert not os.path.isdir(leases) or not [name for name in os.listdir(leases) if name in addresses]


def test_network_ls_and_inspect(mini: Mini, host_image: Image) -> None:
    assert set(mini.run("network", "ls", "--format", "{{.Name}}").lines) == {"bridge", "host", "none"}
    container = mini.detached(host_image.name, "sleep", "60")
    (bridge,) = mini.run("network", "inspect", "bridge").json()
    assert bridge["IPAM"]["Config"][0]["Subnet"] == mini.subnet
    assert bridge["Containers"][container]["IPv4Address"] == f"{mini.address(container)}/24"


def test_resolv_conf_names_a_server_within_reach(mini: Mini, image: Image) -> None:
    out = mini.run("run", "--rm", image.name, "cat", "/etc/resolv.conf").lines
    servers = [line.split()[1] for line in out if line.startswith("nameserver")]
    assert servers
    assert not [server for server in servers if ipaddress.ip_address(server).is_loopback and server != "127.0.0.11"]
