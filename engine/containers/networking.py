"""A container's networks in one of its lives: addresses, interfaces, the files that name hosts.

    reserve        bridges are there, an address of each network is the container's       before init
    write_files    hosts, hostname, resolv.conf                                            before init
    attach         a veth pair for each network, and what is written down of it            while init mounts
    serve_names    its DNS, in the monitor's loop                                          from then on
    detach         the written is removed                                                  when init has ended
    release        what is left of the pairs, and the addresses, go                        last

What is wanted is in the config (`NetworkSettings.Networks`, Docker's EndpointConfig by network name), what is there now in the
endpoint files of each network (`runtime/network/endpoints.py`).
"""

from __future__ import annotations

import os

from engine import files
from engine.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context
    from engine.runtime.loop import Loop
    from engine.runtime.network.dns import Resolver, Upstream
    from engine.runtime.network.model import Network


def wanted(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """EndpointConfig by network name, the first one first; none for a container in the namespace of another."""
    networks: dict[str, dict[str, Any]] = config["NetworkSettings"]["Networks"]
    return networks


def endpoints(ctx: Context, record: Record) -> dict[str, dict[str, Any]]:
    """The container's endpoints as they are now, by network name; none of one that does not run."""
    from engine.runtime.network import endpoints as kept

    found = {}
    for name in wanted(record.config):
        if endpoint := kept.read(ctx.paths.endpoints(name), record.id):
            found[name] = endpoint
    return found


def shown(endpoint: dict[str, Any]) -> dict[str, Any]:
    """An endpoint as Docker's inspect object has it; of none, empty values."""
    return {
        "NetworkID": endpoint.get("network_id", ""),
        "EndpointID": endpoint.get("id", ""),
        "Gateway": endpoint.get("gateway", ""),
        "IPAddress": endpoint.get("address", ""),
        "IPPrefixLen": endpoint.get("prefix", 0),
        "MacAddress": endpoint.get("mac", ""),
    }


class Networking:
    """The networks of a container that starts now."""

    def __init__(self, ctx: Context, record: Record) -> None:
        self.ctx, self.record = ctx, record
        self.config = record.config
        self.mode: str = record.config["HostConfig"]["NetworkMode"]
        self.joined: list[tuple[Network, str]] = []  # with the address, in the order of eth0, eth1 …
        self._resolver: tuple[_socket.socket, _socket.socket] | None = None

    def reserve(self) -> None:
        """Makes each network ready and leases an address on it. What was leased is given back by `release`."""
        if self.mode in ("host", "none") or self.mode.startswith("container:"):
            return
        from engine.runtime.network import bridge
        from engine.runtime.network.model import Networks

        networks = Networks(self.ctx.paths, self.ctx.bridge, self.ctx.subnet)
        for name in wanted(self.config):
            network = networks.get(name)
            if not bridge.ready(network):
                from engine.runtime import apart

                lock = self.ctx.paths.lock(f"network-{network.bridge}")
                apart.run(lambda network=network, lock=lock: bridge.ensure(network, lock))  # type: ignore[misc]
            self.joined.append((network, _reserve_address(self.ctx, network, self.record.id)))

    def attach(self, pid: int) -> dict[str, Any]:
        """Called while init mounts: its network namespace exists, nothing in it is up. The endpoints by network name."""
        from engine.runtime.network import attach as link
        from engine.runtime.network import endpoints as kept

        if self.mode == "none":
            link.loopback_up(pid)
        made = {}
        for number, (network, address) in enumerate(self.joined):
            ifname = f"eth{number}"
            endpoint = link.attach(network, pid, address, None, link.veth_name(self.record.id, ifname), ifname)
            made[network.name] = endpoint.to_json()
            names = {"Name": self.record.name, "Aliases": [self.record.id[:12]]}
            kept.write(self.ctx.paths.endpoints(network.name), self.record.id, made[network.name] | names)
        if self.joined:
            from engine.runtime.network import dns

            self._resolver = dns.open_inside(pid)
        return made

    def serve_names(self, loop: Loop, pid: int) -> Resolver | None:
        """The container's DNS, from now until it is closed; None where it has no network of its own."""
        if not self._resolver:
            return None
        from engine.runtime.network import dns
        from engine.runtime.network.names import Names

        names = Names(self.ctx.paths.networks, self.record.id)
        servers = _nameservers(self.config["HostConfig"])
        return dns.Resolver(loop, *self._resolver, names, servers, f"/proc/{pid}/ns/net")

    def write_files(self) -> None:
        """hosts, hostname and resolv.conf, bound over the image's; made anew at every start, as Docker does."""
        from engine.runtime.network import hostfiles

        config, host, directory = self.config["Config"], self.config["HostConfig"], self.record.directory
        resolver = hostfiles.EMBEDDED if self.joined else host["Dns"]
        resolv = hostfiles.resolv_conf(
            hostfiles.host_resolv_conf(), self.mode, resolver, host["DnsSearch"], host["DnsOptions"]
        )
        name = ".".join(filter(None, (config["Hostname"], config["Domainname"])))
        base = files.read_bytes("/etc/hosts").decode(errors="replace") if self.mode == "host" else None
        network, address = self.joined[0] if self.joined else (None, None)
        hosts = hostfiles.hosts(name, address, host["ExtraHosts"] or (), network.gateway if network else None, base)
        for name, text in (("hosts", hosts), ("hostname", f"{config['Hostname']}\n"), ("resolv.conf", resolv)):
            with open(f"{directory}/{name}", "w") as file:
                file.write(text)


def _nameservers(host: dict[str, Any]) -> list[Upstream]:
    """Who is asked for names of elsewhere: `--dns`, else whom the host asks."""
    from engine.runtime.network import hostfiles
    from engine.runtime.network.dns import Upstream

    if host["Dns"]:
        return [Upstream(address, inside=True) for address in host["Dns"]]
    return [Upstream(address) for address in hostfiles.host_nameservers()]


def _reserve_address(ctx: Context, network: Network, container_id: str) -> str:
    from engine.runtime.network import ipam

    leases = ctx.paths.leases(network.name)
    try:
        return ipam.reserve(leases, network.subnet, network.gateway, container_id)
    except Conflict:
        # none is left: those of containers that are gone (a monitor was killed) are free
        for owner in set(ipam.leases(leases).values()):
            if not os.path.isdir(ctx.paths.container(owner)):
                ipam.release(leases, owner)
        return ipam.reserve(leases, network.subnet, network.gateway, container_id)


def renamed(ctx: Context, record: Record) -> None:
    """Tells the networks of a container that runs its new name."""
    from engine.runtime.network import endpoints as kept

    for name, endpoint in endpoints(ctx, record).items():
        kept.write(ctx.paths.endpoints(name), record.id, endpoint | {"Name": record.name})


def detach(ctx: Context, record: Record) -> None:
    """Says of a container that has ended that it is on no network. Its interfaces go with its namespace; idempotent."""
    from engine.runtime.network import endpoints as kept

    for name in wanted(record.config):
        kept.remove(ctx.paths.endpoints(name), record.id)


def release(ctx: Context, record: Record) -> None:
    """Deletes the veth pairs, then frees the addresses. The kernel takes 20 to 45 ms for a pair (it waits for RCU)."""
    if record.config["HostConfig"]["NetworkMode"] in ("host", "none"):
        return
    from engine.runtime.network import attach as link
    from engine.runtime.network import ipam

    detach(ctx, record)
    for number, name in enumerate(wanted(record.config)):
        link.detach(link.veth_name(record.id, f"eth{number}"))
        ipam.release(ctx.paths.leases(name), record.id)
