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

from engine import events, files
from engine.containers import netoptions
from engine.containers.netoptions import CONTAINER
from engine.errors import Conflict, MiniError, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Any

    from engine.containers.options import CreateOptions
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


class Joined:
    """A network that a container is about to be on: what is wanted of it, and the addresses leased."""

    __slots__ = ("address", "address6", "asked", "network")

    def __init__(self, network: Network, asked: dict[str, Any]) -> None:
        self.network = network
        self.asked = asked
        self.address = self.address6 = ""

    @property
    def addresses(self) -> list[str]:
        return [address for address in (self.address, self.address6) if address]


def asked(ctx: Context, options: CreateOptions) -> dict[str, dict[str, Any]]:
    """NetworkSettings.Networks of a new container: the networks by their names, however they were called.

    One that does not exist is told when the container starts, as by Docker. NotFound for a `--link` to nobody.
    """
    from engine.containers import records

    for text in netoptions.links(options) or ():
        name = text.partition(":")[0].removeprefix("/")
        try:
            records.find(ctx.paths, name)
        except NotFound as e:
            raise NotFound(f"could not get container for {name}: {e.message}") from None
    return {_name_of(ctx, network): config for network, config in netoptions.settings(options).items()}


def _name_of(ctx: Context, network: str) -> str:
    if not netoptions.is_user_defined(network):
        return network
    try:
        return network_of(ctx, network).name
    except MiniError:
        return network


def network_id(ctx: Context, name: str) -> str:
    """Empty for a network that is no more."""
    try:
        return network_of(ctx, name).id
    except MiniError:
        return ""


def joined_now(ctx: Context, record: Record) -> list[Joined]:
    """The networks that a container is on now, with its addresses there."""
    found = []
    for name, endpoint in endpoints(ctx, record).items():
        if endpoint["address"]:
            joined = Joined(network_of(ctx, name), wanted(record.config).get(name) or {})
            joined.address, joined.address6 = endpoint["address"], endpoint["address6"]
            found.append(joined)
    return found


def gateways(joined: Sequence[Joined]) -> tuple[str, str]:
    """The networks by which IPv4 and IPv6 leave: that of the highest priority, then one with both, then by name, as Docker's.

    Empty where there is none: an internal network leads nowhere.
    """
    order = sorted(
        (j for j in joined if not j.network.internal),
        key=lambda j: (-(j.asked.get("GwPriority") or 0), not j.address6, j.network.name),
    )
    return next((j.network.name for j in order), ""), next((j.network.name for j in order if j.address6), "")


class Networking:
    """The networks of a container that starts now."""

    def __init__(self, ctx: Context, record: Record) -> None:
        self.ctx, self.record = ctx, record
        self.joined: list[Joined] = []  # in the order of eth0, eth1 …
        self._resolver: tuple[_socket.socket, _socket.socket] | None = None

    @property
    def config(self) -> dict[str, Any]:
        return self.record.config

    @property
    def mode(self) -> str:
        mode: str = self.config["HostConfig"]["NetworkMode"]
        return mode

    def reserve(self, again: bool = False) -> None:
        """Makes each network ready and leases addresses on it. What was leased is given back by `release`.

        `again`: for the next life, which keeps the addresses of the last.
        """
        if self.mode == "host" or self.mode.startswith(CONTAINER):
            return
        if again:
            self.record.reload()
        if not wanted(self.config):
            # disconnected from all: it begins anew with the first one
            wanted(self.config)[_name_of(self.ctx, self.mode)] = netoptions.endpoint_config()
            self.record.save_config()
        for name, asked in wanted(self.config).items():
            if name != "none":
                self.joined.append(join(self.ctx, self.record.id, name, asked, again))

    def attach(self, pid: int) -> dict[str, Any]:
        """Called while init mounts: its network namespace exists, nothing in it is up. The endpoints by network name."""
        from engine.runtime.network import attach as link

        if not self.joined and (self.mode == "host" or "none" in wanted(self.config)):
            if self.mode != "host":
                link.loopback_up(pid, self.ctx.log)
            return {self.mode: plug(self.ctx, self.record, Joined(network_of(self.ctx, self.mode), {}), pid, "")}
        first = gateways(self.joined)
        made = {}
        for number, joined in enumerate(self.joined):
            made[joined.network.name] = plug(self.ctx, self.record, joined, pid, f"eth{number}", first)
        if self.joined:
            from engine.runtime.network import dns

            self._resolver = dns.open_inside(pid, self.ctx.log)
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
        base = files.read_bytes("/etc/hosts").decode(errors="replace") if self.mode == "host" else None
        first = gateways(self.joined)[0]
        gateway = next((j.network.gateway for j in self.joined if j.network.name == first), None)
        own = [address for joined in self.joined for address in joined.addresses]
        links = linked(self.ctx, self.record)
        hosts = hostfiles.hosts(full_name(config), own, host["ExtraHosts"] or (), gateway, base, links)
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


def full_name(config: dict[str, Any]) -> str:
    return ".".join(filter(None, (config["Hostname"], config["Domainname"])))


def network_of(ctx: Context, name: str) -> Network:
    from engine.runtime.network.model import Networks

    return Networks(ctx.paths, ctx.bridge, ctx.subnet).get(name)


def join(ctx: Context, container_id: str, name: str, asked: dict[str, Any], again: bool = False) -> Joined:
    """Makes the network ready and leases addresses on it. NotFound, UsageError, Conflict in Docker's words.

    Who removes a network holds the lock exclusively, and sees the lease of whoever was first.
    """
    from engine.runtime.network import bridge

    with files.FileLock(ctx.paths.lock("networks"), shared=True):
        joined = Joined(network_of(ctx, name), asked)
        network = joined.network
        joined.address = _lease(ctx, container_id, network, asked, again)
        if network.ipv6:
            joined.address6 = _lease(ctx, container_id, network, asked, again, network.ipv6)
        elif (asked.get("IPAMConfig") or {}).get("IPv6Address"):
            raise UsageError(_NOT_CONFIGURED)
    if network.driver == "bridge" and not bridge.ready(network):
        from engine.runtime import apart

        apart.run(lambda: _make_whole(ctx, network))
    return joined


def _make_whole(ctx: Context, network: Network) -> None:
    """Also the published ports of those that run: with the rules, somebody took them away, too."""
    from engine.containers import publishing
    from engine.runtime.network import bridge

    bridge.ensure(network, ctx.paths.lock(f"network-{network.bridge}"), ctx.log)
    publishing.put_back(ctx)


_NOT_CONFIGURED = "user specified IP address is supported only when connecting to networks with user configured subnets"


def _lease(
    ctx: Context,
    container_id: str,
    network: Network,
    asked: dict[str, Any],
    again: bool,
    ipv6: dict[str, Any] | None = None,
) -> str:
    from engine.runtime.network import ipam

    pool = ipv6 or {
        "subnet": network.subnet, "gateway": network.gateway, "ip_range": network.ip_range, "aux": network.aux
    }  # fmt: skip
    leases = ctx.paths.leases(network.name)
    address = (asked.get("IPAMConfig") or {}).get("IPv6Address" if ipv6 else "IPv4Address")
    if address and not network.has_chosen_subnet(6 if ipv6 else 4):
        raise UsageError(_NOT_CONFIGURED)
    if again:
        bits = ipam.bits_of(pool["subnet"])
        held = [a for a, owner in ipam.leases(leases).items() if owner == container_id and ipam.bits_of(a) == bits]
        address = address or next(iter(held), None)

    def reserve() -> str:
        return ipam.reserve(
            leases, pool["subnet"], pool["gateway"], container_id, address, pool["ip_range"], pool["aux"].values()
        )

    try:
        return reserve()
    except Conflict:
        # those of containers that are gone (a monitor was killed) are free
        for owner in set(ipam.leases(leases).values()):
            if not os.path.isdir(ctx.paths.container(owner)):
                ipam.release(leases, owner)
        return reserve()


def plug(
    ctx: Context, record: Record, joined: Joined, pid: int, ifname: str, first: tuple[str, str] = ("", "")
) -> dict[str, Any]:
    """Connects a network namespace to a network, and writes down the endpoint, which is returned. `first`: of `gateways`."""
    from engine.runtime.network import attach as link
    from engine.runtime.network import endpoints as kept
    from engine.runtime.network.model import Endpoint

    network = joined.network
    if joined.address:
        endpoint = link.attach(
            network, pid, joined.address, joined.asked.get("MacAddress") or None, link.veth_name(record.id, ifname), ifname,
            ctx.log, joined.address6, (network.name == first[0], network.name == first[1]),
        )  # fmt: skip
    else:
        endpoint = Endpoint(network.name, network.id, os.urandom(32).hex())
    written = endpoint.to_json() | {
        "Name": record.name,
        "Aliases": aliases(record, joined.asked) if joined.address else [],
        "Links": dict(netoptions.link(text)[::-1] for text in joined.asked.get("Links") or ()),
    }
    kept.write(ctx.paths.endpoints(network.name), record.id, written)
    events.network(ctx.paths, written, "connect", record.id)
    return written


def aliases(record: Record, asked: dict[str, Any]) -> list[str]:
    """By what else than its name others find the container: what was asked for, its short ID, its hostname, as in Docker."""
    return list(dict.fromkeys([*(asked.get("Aliases") or ()), record.id[:12], record.config["Config"]["Hostname"]]))


def linked(ctx: Context, record: Record) -> list[tuple[str, str]]:
    """(address, names) for each `--link` on the default network, as lines of /etc/hosts. Conflict in Docker's words."""
    from engine.containers import records

    found = []
    for text in record.config["HostConfig"].get("Links") or ():
        name, _, path = text.partition(":")
        alias = path.rpartition("/")[2]
        other = records.find(ctx.paths, name)
        endpoint = endpoints(ctx, other).get("bridge")
        if "bridge" not in wanted(other.config):
            raise Conflict(f"Cannot link to /{other.name}, as it does not belong to the default network")
        if endpoint is None:
            raise Conflict(f"Cannot link to a non running container: /{other.name} AS {path}")
        names = dict.fromkeys([alias, other.config["Config"]["Hostname"], other.name])
        found.append((endpoint["address"], " ".join(names)))
    return found


def renamed(ctx: Context, record: Record) -> None:
    """Tells the networks of a container that runs its new name."""
    from engine.runtime.network import endpoints as kept

    for name, endpoint in endpoints(ctx, record).items():
        kept.write(ctx.paths.endpoints(name), record.id, endpoint | {"Name": record.name})


def detach(ctx: Context, record: Record) -> None:
    """Says of a container that has ended that it is on no network. Its interfaces go with its namespace; idempotent."""
    for name in wanted(record.config):
        _forget(ctx, record, name)


def _forget(ctx: Context, record: Record, name: str) -> None:
    from engine.runtime.network import endpoints as kept

    if endpoint := kept.read(ctx.paths.endpoints(name), record.id):
        kept.remove(ctx.paths.endpoints(name), record.id)
        events.network(ctx.paths, endpoint, "disconnect", record.id)


def leave(ctx: Context, record: Record, name: str) -> None:
    """Gives back what the container has of one network, but for the interface. Idempotent."""
    from engine.runtime.network import ipam

    _forget(ctx, record, name)
    ipam.release(ctx.paths.leases(name), record.id)


def release(ctx: Context, record: Record) -> None:
    """Deletes the veth pairs, then frees the addresses. The kernel takes 20 to 45 ms for a pair (it waits for RCU)."""
    from engine.runtime.network import attach as link

    detach(ctx, record)
    for host_end in link.host_ends(record.id):
        link.detach(host_end)
    for name in wanted(record.config):
        leave(ctx, record, name)
