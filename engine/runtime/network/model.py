"""Networks as they are kept: one directory each, `networks/NAME/network.json`, with `leases/` beside it.

Three exist always, as in Docker: `bridge` (the default), `host` and `none`. Their records are written when they are
first asked for, so that their IDs last; bridge name and subnet of the default come from the settings instead.
"""

from __future__ import annotations

import os

from engine.errors import Conflict, MiniError, NotFound
from engine.files import create_exclusive, make_dirs, read_json, remove_file, remove_tree
from engine.lean import dumps
from engine.runtime.network.ipam import Subnet
from engine.times import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from engine.paths import Paths

DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}  # the three that always exist
DEFAULT_MTU = 1500
BRIDGE_OPTION = "com.docker.network.bridge"
MTU_OPTION = "com.docker.network.driver.mtu"
TRUE = ("1", "t", "T", "TRUE", "true", "True")


class Network:
    """One network. `driver` is "bridge", "host" or "null"; the latter two have no `bridge`, `subnet` and `gateway`.

    `ip_range`: where in the subnet addresses are given out, empty for all of it. `aux`: addresses by name that are not.
    `ipv6`: the same four (`subnet`, `gateway`, `ip_range`, `aux`) for IPv6, None without. `ipam` is what the user asked for,
    in the form of Docker's IPAM.Config: an `--ip` is only for subnets that the user chose.
    """

    __slots__ = (
        "attachable", "aux", "bridge", "created", "driver", "gateway", "id", "internal", "ip_range", "ipam", "ipam_options",
        "ipv6", "labels", "mtu", "name", "options", "subnet",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        id: str,
        driver: str,
        created: str,
        bridge: str = "",
        subnet: str = "",
        gateway: str = "",
        mtu: int = DEFAULT_MTU,
        internal: bool = False,
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
        ip_range: str = "",
        aux: dict[str, str] | None = None,
        ipv6: dict[str, Any] | None = None,
        ipam: list[dict[str, Any]] | None = None,
        ipam_options: dict[str, str] | None = None,
        attachable: bool = False,
    ) -> None:
        self.name = name
        self.id = id
        self.driver = driver
        self.created = created
        self.bridge = bridge
        self.subnet = subnet
        self.gateway = gateway or (Subnet(subnet).gateway if subnet else "")
        self.mtu = mtu
        self.internal = internal
        self.labels = labels or {}
        self.options = options or {}
        self.ip_range = ip_range
        self.aux = aux or {}
        self.ipv6 = ipv6
        self.ipam = ipam or []
        self.ipam_options = ipam_options
        self.attachable = attachable

    @property
    def prefix(self) -> int:
        return Subnet(self.subnet).prefix

    def has_chosen_subnet(self, version: int) -> bool:
        """Whether the user chose the subnet, of IPv4 (4) or IPv6 (6)."""
        return any((":" in pool.get("Subnet", "")) == (version == 6) for pool in self.ipam)

    def shown_ipam(self) -> list[dict[str, Any]]:
        """Docker's IPAM.Config: what the user asked for, as it was said, and what was chosen where nothing was."""
        asked: list[list[dict[str, Any]]] = [[], []]
        for pool in self.ipam:
            asked[":" in pool["Subnet"]].append(pool)
        chosen4 = [{"Subnet": self.subnet, "Gateway": self.gateway}] if self.subnet else []
        chosen6 = [{"Subnet": self.ipv6["subnet"], "Gateway": self.ipv6["gateway"]}] if self.ipv6 else []
        return (asked[0] or chosen4) + (asked[1] or chosen6)

    def allows(self, option: str) -> bool:
        """A switch of the bridge driver's, such as `enable_icc`: on unless `--opt` says otherwise (Go's ParseBool)."""
        return self.options.get(f"{BRIDGE_OPTION}.{option}", "true") in TRUE

    def to_json(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self.__slots__}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Network:
        return cls(**{field: value[field] for field in cls.__slots__ if field in value})


class Endpoint:
    """A container's end of a network: what `attach` made and `inspect` shows. `id` is Docker's EndpointID."""

    __slots__ = (
        "address", "address6", "gateway", "gateway6", "host_ifname", "id", "ifname", "mac", "network", "network_id",
        "prefix", "prefix6",
    )  # fmt: skip

    def __init__(
        self,
        network: str,
        network_id: str,
        id: str,
        address: str = "",
        prefix: int = 0,
        gateway: str = "",
        mac: str = "",
        ifname: str = "",
        host_ifname: str = "",
        address6: str = "",
        prefix6: int = 0,
        gateway6: str = "",
    ) -> None:
        self.network = network
        self.network_id = network_id
        self.id = id
        self.address = address
        self.prefix = prefix
        self.gateway = gateway
        self.mac = mac
        self.ifname = ifname
        self.host_ifname = host_ifname
        self.address6 = address6
        self.prefix6 = prefix6
        self.gateway6 = gateway6

    def to_json(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self.__slots__}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Endpoint:
        return cls(**{field: value[field] for field in cls.__slots__ if field in value})


class Networks:
    """The networks of one data root. `bridge` and `subnet` are those of the default one (MINI_BRIDGE, MINI_SUBNET)."""

    __slots__ = ("_bridge", "_paths", "_subnet")

    def __init__(self, paths: Paths, bridge: str, subnet: str) -> None:
        self._paths = paths
        self._bridge = bridge
        self._subnet = subnet

    def get(self, name_or_id: str) -> Network:
        """By name, ID, or a prefix of the ID that fits one network only. Raises NotFound, Conflict (ambiguous)."""
        if not name_or_id:
            raise MiniError("invalid network name or ID: value is empty")
        if name_or_id in DRIVERS:
            return self._default(name_or_id)
        if valid_name(name_or_id):
            try:
                return self._load(name_or_id)
            except FileNotFoundError:
                pass
        found = [n for n in self.list_() if n.id.startswith(name_or_id)]
        if not found:
            raise NotFound(f"network {name_or_id} not found")
        if len(found) > 1:
            raise Conflict(f"network {name_or_id} is ambiguous ({len(found)} matches found based on ID prefix)")
        return found[0]

    def list_(self) -> list[Network]:
        """All networks by name, the three that always exist among them."""
        try:
            names = os.listdir(self._paths.networks)
        except FileNotFoundError:
            names = []
        networks = [self._default(name) for name in DRIVERS]
        for name in names:
            if name in DRIVERS or not valid_name(name):
                continue
            try:
                networks.append(self._load(name))
            except FileNotFoundError:  # removed in between, or being made
                pass
        return sorted(networks, key=lambda network: network.name)

    def inspect(self, network: Network, endpoints: Iterable[tuple[str, str, Endpoint]] = ()) -> dict[str, Any]:
        """What `docker network inspect` prints of one. `endpoints`: (container ID, container name, endpoint)."""
        return {
            "Name": network.name,
            "Id": network.id,
            "Created": network.created,
            "Scope": "local",
            "Driver": network.driver,
            "EnableIPv4": True,
            "EnableIPv6": network.ipv6 is not None,
            "IPAM": {"Driver": "default", "Options": network.ipam_options, "Config": network.shown_ipam()},
            "Internal": network.internal,
            "Attachable": network.attachable,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": {
                container_id: {
                    "Name": name,
                    "EndpointID": endpoint.id,
                    "MacAddress": endpoint.mac,
                    "IPv4Address": f"{endpoint.address}/{endpoint.prefix}" if endpoint.address else "",
                    "IPv6Address": f"{endpoint.address6}/{endpoint.prefix6}" if endpoint.address6 else "",
                }
                for container_id, name, endpoint in endpoints
            },
            "Options": network.options,
            "Labels": network.labels,
        }

    def add(self, network: Network) -> None:
        """Makes the network exist; the caller holds the lock of those who add and remove. Conflict where it does.

        A directory without a record is what a killed command left, and is taken over.
        """
        make_dirs(self._paths.network(network.name))
        try:
            create_exclusive(self._record(network.name), dumps(network.to_json()) + b"\n")
        except FileExistsError:
            raise Conflict(f"network with name {network.name} already exists") from None

    def remove(self, network: Network) -> None:
        """Makes it cease to exist, its record first: what is left without one is rubbish."""
        remove_file(self._record(network.name))
        remove_tree(self._paths.network(network.name))

    def _default(self, name: str) -> Network:
        try:
            record = self._load(name)
        except FileNotFoundError:
            self._create_default(name)
            record = self._load(name)
        if name == "bridge" and (record.bridge, record.subnet) != (self._bridge, self._subnet):
            return self._bridge_network(record.id, record.created)
        return record

    def _create_default(self, name: str) -> None:
        fresh = os.urandom(32).hex()
        network = (
            self._bridge_network(fresh, timestamp())
            if name == "bridge"
            else Network(name, fresh, DRIVERS[name], timestamp())
        )
        make_dirs(self._paths.network(name))
        try:
            create_exclusive(self._record(name), dumps(network.to_json()) + b"\n")
        except FileExistsError:  # another mini was first, and its ID holds
            pass

    def _bridge_network(self, id: str, created: str) -> Network:
        options = {
            f"{BRIDGE_OPTION}.default_bridge": "true",
            f"{BRIDGE_OPTION}.enable_icc": "true",
            f"{BRIDGE_OPTION}.enable_ip_masquerade": "true",
            f"{BRIDGE_OPTION}.host_binding_ipv4": "0.0.0.0",
            f"{BRIDGE_OPTION}.name": self._bridge,
            MTU_OPTION: str(DEFAULT_MTU),
        }
        subnet = str(Subnet(self._subnet))
        return Network("bridge", id, "bridge", created, bridge=self._bridge, subnet=subnet, options=options)

    def _load(self, name: str) -> Network:
        return Network.from_json(read_json(self._record(name)))

    def _record(self, name: str) -> str:
        return self._paths.network(name) + "/network.json"


def valid_name(name: str) -> bool:
    """Docker's names: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`. Nothing else may become a file name."""
    return len(name) <= 255 and name.isascii() and name[:1].isalnum() and all(c.isalnum() or c in "_.-" for c in name)
