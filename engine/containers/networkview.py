"""Docker's NetworkSettings: what is wanted of each network together with what is there of it."""

from __future__ import annotations

from engine.containers import netoptions, networking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.containers.records import Record
    from engine.context import Context


def settings(ctx: Context, record: Record, state: dict[str, Any]) -> dict[str, Any]:
    """`state` as `views.refresh` has it."""
    running = state["Status"] in ("running", "paused")
    now = networking.endpoints(ctx, record) if running else {}
    started = not state["StartedAt"].startswith("0001")
    shown = {
        name: _network(ctx, record, name, asked, now.get(name), started)
        for name, asked in networking.wanted(record.config).items()
    }
    has_namespace = running and not record.config["HostConfig"]["NetworkMode"].startswith(netoptions.CONTAINER)
    top = shown.get("bridge") or _endpoint({})
    keys = (
        "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway",
        "MacAddress",
    )  # fmt: skip
    return {
        "Bridge": "",
        "SandboxID": record.id if has_namespace else "",
        "SandboxKey": f"/proc/{state['Pid']}/ns/net" if has_namespace else "",
        "Ports": _ports(record, state) if running else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{key: top[key] for key in keys},
        "Networks": shown,
    }


def _ports(record: Record, state: dict[str, Any]) -> dict[str, Any]:
    """By container port, where it is published; null for one that is exposed only. None where nothing can be published."""
    mappings = state.get("Ports")
    if mappings is None:
        return {}
    ports: dict[str, Any] = dict.fromkeys(record.config["Config"].get("ExposedPorts") or ())
    for mapping in mappings:
        binding = {"HostIp": mapping["HostIp"], "HostPort": mapping["HostPort"]}
        ports[mapping["Port"]] = [*(ports.get(mapping["Port"]) or ()), binding]
    return dict(sorted(ports.items()))


def with_links(record: Record) -> dict[str, Any]:
    """HostConfig, where Docker shows whose a link is, as well: `/OTHER:/SELF/ALIAS`."""
    host: dict[str, Any] = record.config["HostConfig"]
    if not host.get("Links"):
        return host
    parts = (link.split(":") for link in host["Links"])
    return host | {"Links": [f"{other}:/{record.name}/{alias}" for other, alias in parts]}


def _network(
    ctx: Context, record: Record, name: str, asked: dict[str, Any], endpoint: dict[str, Any] | None, started: bool
) -> dict[str, Any]:
    """A container that has been started shows the aliases that it gets by itself, and its network's ID when it has ended."""
    shown = asked | _endpoint(endpoint or {})
    if started and netoptions.is_user_defined(name):
        shown["Aliases"] = networking.aliases(record, asked)
    if started and not endpoint:
        shown["NetworkID"] = networking.network_id(ctx, name)
    if not endpoint:
        shown["MacAddress"] = asked["MacAddress"]
    return shown | {"DNSNames": _names(record, shown["Aliases"]) if netoptions.is_user_defined(name) else None}


def _names(record: Record, aliases: list[str] | None) -> list[str]:
    return list(dict.fromkeys([record.name, *(aliases or [])]))


def _endpoint(endpoint: dict[str, Any]) -> dict[str, Any]:
    """An endpoint in Docker's words; of none, empty values."""
    return {
        "MacAddress": endpoint.get("mac", ""),
        "NetworkID": endpoint.get("network_id", ""),
        "EndpointID": endpoint.get("id", ""),
        "Gateway": endpoint.get("gateway", ""),
        "IPAddress": endpoint.get("address", ""),
        "IPPrefixLen": endpoint.get("prefix", 0),
        "IPv6Gateway": endpoint.get("gateway6", ""),
        "GlobalIPv6Address": endpoint.get("address6", ""),
        "GlobalIPv6PrefixLen": endpoint.get("prefix6", 0),
    }
