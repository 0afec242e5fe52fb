"""Published ports in one life of a container: claimed on the host, translated by the packet filter, served by the proxy.

    from another host ─────▶ any4, ports4 … (portrules.py) ──▶ container
    127.0.0.1, ::1 … ──────▶ the monitor's sockets (proxy.py) ─▶ container

What is wanted is in the config (HostConfig.PortBindings, PublishAllPorts), what is there in the state:

    Ports: [{"Port": "80/tcp", "HostIp": "0.0.0.0", "HostPort": "8080", "To": "172.29.0.2"}, …]

written before the packet filter is, so that whoever finds the monitor killed can take away what it has left. Each element there
has the bridge and the container's ID as its comment.
"""

from __future__ import annotations

import errno
import os

from engine.containers import networking, records
from engine.errors import Conflict, MiniError, UsageError
from engine.runtime.network import nat, netlink, portrules
from engine.runtime.network import nftables as nft

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterator
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context
    from engine.runtime.loop import Loop
    from engine.runtime.network.netlink import Log
    from engine.runtime.network.nftables import Element
    from engine.runtime.network.proxy import Listener

_ATTEMPTS = 64  # at a port that is free for IPv4 and for IPv6
_BOTH = ("0.0.0.0", "::")
HOST_ADDRESS_OPTION = "com.docker.network.bridge.host_binding_ipv4"


class Asked:
    """One binding that is wanted: the container's port as "80/tcp", and where on the host; empty for whatever there is."""

    __slots__ = ("address", "host_port", "port")

    def __init__(self, port: str, address: str, host_port: str) -> None:
        self.port, self.address, self.host_port = port, address, host_port

    @property
    def protocol(self) -> str:
        return self.port.partition("/")[2]

    @property
    def candidates(self) -> list[int]:
        """Ports of the host to try; 0: the kernel's choice."""
        first, _, last = self.host_port.partition("-")
        return list(range(int(first or 0), int(last or first or 0) + 1))

    def is_where(self, other: Asked) -> bool:
        """Whether both are at the same certain port of the host."""
        mine, its = ((a.protocol, a.address, a.host_port) for a in (self, other))
        return mine == its and self.host_port not in ("", "0")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Asked) and (self.port, self.address, self.host_port) == (
            other.port, other.address, other.host_port
        )  # fmt: skip


class Claim:
    """A port of the host that is the container's: a socket for each address."""

    __slots__ = ("asked", "number", "sockets")

    def __init__(self, asked: Asked, number: int, sockets: list[tuple[str, _socket.socket]]) -> None:
        self.asked, self.number, self.sockets = asked, number, sockets

    def close(self) -> None:
        for _, claimed in self.sockets:
            claimed.close()


class Target:
    """Where published ports lead: the container's addresses on the networks by which it leaves. None where there are none."""

    __slots__ = ("_cables", "address", "address6", "bridge", "default", "endpoint")

    def __init__(self, ctx: Context, record: Record) -> None:
        joined = networking.joined_now(ctx, record)
        first, first6 = networking.gateways(joined)
        by_name = {j.network.name: j for j in joined}
        self.address = by_name[first].address if first else ""
        self.address6 = by_name[first6].address6 if first6 else ""
        self.bridge = by_name[first].network.bridge if first else ""
        ends = networking.endpoints(ctx, record)
        self.endpoint = ends[first]["id"] if first else ""
        self._cables = {ends[name]["host_ifname"] for name in (first, first6) if name}
        option = by_name[first].network.options.get(HOST_ADDRESS_OPTION, "") if first else ""
        self.default = default_addresses(ctx, option)

    def of(self, address: str) -> str:
        """The container's address for what comes to the host's `address`: IPv6 where it has that."""
        return self.address6 or self.address if ":" in address else self.address

    def open_hairpin(self, log: Log | None) -> None:
        """For the container that asks for its own port at the host's address."""
        with netlink.Netlink() as route:
            route.apply([netlink.hairpin_port(cable) for cable in sorted(self._cables)], log)


def default_addresses(ctx: Context, option: str = "") -> tuple[str, ...]:
    """Of the host, where `-p` names none: the network's option, else the setting, else all."""
    from engine.runtime.network.ipam import number_of

    address = ctx.publish_address if option in ("", "0.0.0.0") else option
    if address in ("", "0.0.0.0"):
        return _BOTH if os.path.exists("/proc/net/if_inet6") else _BOTH[:1]
    if number_of(address) is None:
        raise UsageError(
            f"invalid address for published ports: {address}", "MINI_PUBLISH_ADDRESS=127.0.0.1, for instance"
        )
    return (address,)


def wanted(config: dict[str, Any]) -> list[Asked]:
    """All bindings of the config; with -P one for each exposed port that has none."""
    host = config["HostConfig"]
    bindings: dict[str, Any] = host.get("PortBindings") or {}
    found = [Asked(port, b["HostIp"], b["HostPort"]) for port, there in bindings.items() for b in there]
    if host.get("PublishAllPorts"):
        exposed = config["Config"].get("ExposedPorts") or {}
        found += [Asked(port, "", "") for port in exposed if port not in bindings and not port.endswith("/sctp")]
    return found


class Published:
    """What is published of one container, in its monitor."""

    def __init__(self, ctx: Context, record: Record) -> None:
        self._ctx, self._record = ctx, record
        self._claims: list[Claim] = []
        self._elements: list[Element] = []
        self._listeners: dict[_socket.socket, Listener] = {}
        self._loop: Loop | None = None

    def fit(self, state: dict[str, Any]) -> None:
        """Makes it what the config wants and the networks are. Conflict where a port is taken: then nothing has changed.

        Writes `Ports` into the state, and saves it; none where no network leads out.
        """
        from engine.runtime import rlimits

        rlimits.raise_descriptors()
        target = Target(self._ctx, self._record)
        asked = wanted(self._record.config) if target.address else []
        claims, fresh, gone = self._claimed(asked, target)
        elements = list(_elements(claims, target, self._record.id))
        if target.address:
            state["Ports"] = [_mapping(claim, address, target) for claim in claims for address, _ in claim.sockets]
        else:
            state.pop("Ports", None)
        self._record.save_state(state)
        try:
            if elements:
                target.open_hairpin(self._ctx.log)
            self._translate(elements)
        except BaseException:
            for claim in fresh:
                claim.close()
            raise
        self._claims, self._elements = claims, elements
        self._drop(gone)
        if self._loop:
            self.serve(self._loop, target)

    def _translate(self, elements: list[Element]) -> None:
        old, new = ({(e.map.name, e.key, e.value): e for e in those} for those in (self._elements, elements))
        gone, come = ([a[key] for key in a if key not in b] for a, b in ((old, new), (new, old)))
        portrules.change(nat.TABLE, gone, come, self._ctx.log)

    def serve(self, loop: Loop, target: Target | None = None) -> None:
        """From now on in the monitor's loop; where a port leads to may have changed."""
        from engine.runtime.network import proxy

        self._loop = loop
        target = target or Target(self._ctx, self._record)
        for claim in self._claims:
            inner = int(claim.asked.port.partition("/")[0])
            for address, claimed in claim.sockets:
                to = (target.of(address), inner)
                if listener := self._listeners.get(claimed):
                    listener.target = to
                else:
                    self._listeners[claimed] = proxy.Listener(loop, claimed, to)

    def close(self) -> None:
        """Withdraws all of it: the packet filter's part first, while the ports are still ours."""
        try:
            portrules.change(nat.TABLE, self._elements, [])
        except MiniError:
            # left to `fsck`: the container has ended all the same
            pass
        self._elements = []
        self._drop(self._claims)
        self._claims = []

    def _drop(self, claims: list[Claim]) -> None:
        for claim in claims:
            for _, claimed in claim.sockets:
                if listener := self._listeners.pop(claimed, None):
                    listener.close()
            claim.close()

    def _claimed(self, asked: list[Asked], target: Target) -> tuple[list[Claim], list[Claim], list[Claim]]:
        """A claim for each, in the order asked; those of them that are new, and those that are there and no longer fit."""
        found: dict[int, Claim] = {}
        left = list(self._claims)
        for fits in (Asked.__eq__, Asked.is_where):
            for index, one in enumerate(asked):
                match = None if index in found else next((c for c in left if fits(c.asked, one)), None)
                if match:
                    left.remove(match)
                    found[index] = Claim(one, match.number, match.sockets) if match.asked != one else match
        fresh: list[Claim] = []
        try:
            # certain ports before those that may be any
            for index in sorted(range(len(asked)), key=lambda i: (len(asked[i].candidates), 0 in asked[i].candidates)):
                if index not in found:
                    found[index] = self._claim(asked[index], target)
                    fresh.append(found[index])
        except BaseException:
            for claim in fresh:
                claim.close()
            raise
        return [found[index] for index in range(len(asked))], fresh, left

    def _claim(self, asked: Asked, target: Target) -> Claim:
        """Conflict in Docker's words where none of the candidates is free."""
        addresses = (asked.address,) if asked.address else target.default
        for number in asked.candidates if asked.host_port not in ("", "0") else [0] * _ATTEMPTS:
            try:
                return _claim(asked, number, addresses)
            except OSError as e:
                failure = e
                if e.errno != errno.EADDRINUSE:
                    break
        address, number = failure.filename, failure.filename2
        raise _refused(self._ctx, self._record, target, asked.protocol, (str(address), int(number or 0)), failure)


def _claim(asked: Asked, number: int, addresses: tuple[str, ...]) -> Claim:
    """OSError with the address and port as its two file names."""
    from engine.runtime.network import proxy

    sockets: list[tuple[str, _socket.socket]] = []
    for address in addresses:
        try:
            claimed = proxy.claim(asked.protocol, address, number)
        except OSError as e:
            for _, other in sockets:
                other.close()
            raise OSError(e.errno, e.strerror, address, None, str(number)) from e
        number = claimed.getsockname()[1]
        sockets.append((address, claimed))
    return Claim(asked, number, sockets)


def _mapping(claim: Claim, address: str, target: Target) -> dict[str, str]:
    return {"Port": claim.asked.port, "HostIp": address, "HostPort": str(claim.number), "To": target.of(address)}


def _elements(claims: list[Claim], target: Target, container_id: str) -> Iterator[Element]:
    for claim in claims:
        for address, _ in claim.sockets:
            element = _element(_mapping(claim, address, target), target.bridge, container_id)
            if element:
                yield element


def _element(mapping: dict[str, str], bridge: str, container_id: str) -> Element | None:
    number, _, protocol = mapping["Port"].partition("/")
    host = (mapping["HostIp"], int(mapping["HostPort"]))
    return portrules.element(protocol, host, (mapping["To"], int(number)), f"{bridge}: {container_id}")


def withdraw(container_id: str) -> None:
    """Takes away what the packet filter has of a container whose monitor cannot any more. Idempotent."""
    portrules.remove(nat.TABLE, lambda owner: owner.endswith(container_id))


def put_back(ctx: Context) -> int:
    """Gives the packet filter what it must have of all containers that run; how much of it was missing."""
    running = records.list_all(ctx.paths, lambda record: bool(_mappings(record)))
    missing = portrules.put_back(nat.TABLE, [e for record in running for e in _elements_now(ctx, record)], ctx.log)
    for record in running:
        # a cable that was plugged in again has lost it
        Target(ctx, record).open_hairpin(None)
        # one that has ended meanwhile had nothing to withdraw
        if missing and not _mappings(record):
            withdraw(record.id)
    return missing


def _mappings(record: Record) -> list[dict[str, str]]:
    state = record.load_state()
    return (state.get("Ports") or []) if records.is_alive(state, "MonitorPid") else []


def _elements_now(ctx: Context, record: Record) -> list[Element]:
    bridge = Target(ctx, record).bridge
    return [e for m in _mappings(record) if (e := _element(m, bridge, record.id))]


def owners(bridges: set[str]) -> set[str]:
    """IDs of the containers at these bridges that the packet filter has something of."""
    with nft.connect() as connection:
        found = portrules.present(nat.TABLE, connection, lambda e: nft.owner_of(e.owner) in bridges)
    return {e.owner.rpartition(" ")[2] for e in found}


def follow(ctx: Context, record: Record) -> None:
    """Has the monitor of a container that runs carry out what has changed in its config or networks. Raises its refusal."""
    from engine.runtime import attach

    try:
        client = attach.connect(ctx.paths.container_run(record.id))
    except OSError:  # it has just ended: its next life will have it so
        return
    try:
        attach.send_all(client.fileno(), attach.frame(attach.FOLLOW))
        answer = attach.read_frame(client.fileno())
    except OSError:
        return
    finally:
        client.close()
    if answer and answer[0] == attach.ERROR:
        from engine import lean

        raise attach.error_from_payload(lean.loads(answer[1]))


# --- whose a port is -----------------------------------------------------------------------------------------------


def _refused(
    ctx: Context, record: Record, target: Target, protocol: str, host: tuple[str, int], e: OSError
) -> MiniError:
    frame = f"driver failed programming external connectivity on endpoint {record.name} ({target.endpoint}): "
    address, port = host
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    family = "6" if ":" in address else "4"
    reason = os.strerror(e.errno or 0).lower()
    words = f"Error starting userland proxy: listen {protocol}{family} {where}: bind: {reason}"
    if e.errno != errno.EADDRINUSE:
        return Conflict(frame + words, None if port else "no port was free")
    if holder := _container_with(ctx, protocol, address, port):
        name, its_address = holder
        if its_address == address:
            words = f"Bind for {where} failed: port is already allocated"
        return Conflict(frame + words, f"container {name} has port {port}/{protocol} of the host, on {its_address}")
    if its_own(record, protocol, port):
        return Conflict(frame + f"Bind for {where} failed: port is already allocated", "it is asked for twice")
    from engine.containers import portholders

    process = portholders.process_with(protocol, address, port)
    return Conflict(frame + words, f"{process} has port {port}/{protocol} of the host" if process else None)


def _container_with(ctx: Context, protocol: str, address: str, port: int) -> tuple[str, str] | None:
    """(name, host address) of the container of this data root that has it."""
    for record in records.list_all(ctx.paths):
        for mapping in record.load_state().get("Ports") or ():
            same = (mapping["HostPort"], mapping["Port"].partition("/")[2]) == (str(port), protocol)
            its = mapping["HostIp"]
            overlap = (":" in its) == (":" in address) and (address == its or address in _BOTH or its in _BOTH)
            if same and overlap:
                return record.name, its
    return None


def its_own(record: Record, protocol: str, port: int) -> bool:
    """Whether the container asks for the port of the host more than once."""
    same = [a for a in wanted(record.config) if a.protocol == protocol and a.host_port == str(port)]
    return len(same) > 1
