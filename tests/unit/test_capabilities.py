"""Capability names and bits; and other small tables of the runtime that need no kernel."""

from __future__ import annotations

import resource

import pytest

from engine.errors import CommandNotFound, RuntimeFault
from engine.runtime import capabilities, namespaces, rlimits
from engine.runtime.defaults import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from engine.runtime.process import channel


def test_masks() -> None:
    assert capabilities.mask([]) == 0
    assert capabilities.mask(["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"]) == 1 | 1 << 21 | 1 << 40
    assert capabilities.mask(DEFAULT_CAPABILITIES) == 0xA80425FB
    assert capabilities.mask(ALL_CAPABILITIES) == (1 << 41) - 1


def test_names_that_are_unknown_are_left_out() -> None:
    """As the OCI spec has it for what a runtime cannot grant; the command line refuses them before."""
    assert capabilities.mask(["CAP_OF_TOMORROW", "CAP_KILL", "kill"]) == 1 << 5


def _spec(*entries: dict[str, str], **linux: object) -> dict[str, object]:
    return {"ociVersion": "1.2.0", "root": {"path": "/x"}, "linux": {"namespaces": list(entries), **linux}}


def test_namespaces_to_make_and_to_join() -> None:
    wanted = namespaces.of(_spec({"type": "mount"}, {"type": "network", "path": "/n"}, {"type": "pid"}))  # type: ignore[arg-type]
    assert (wanted.new, wanted.join) == (["mount", "pid"], {"network": "/n"})
    assert wanted.flags("mount", "network", "uts") == namespaces.KINDS["mount"][0]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "a container needs a mount namespace, new or another's"),
        ([{"type": "mount"}, {"type": "mnt"}], "unknown or repeated namespace: mnt"),
        ([{"type": "mount"}, {"type": "pid"}, {"type": "pid", "path": "/p"}], "unknown or repeated namespace: pid"),
    ],
)
def test_namespaces_that_make_no_container(entries: list[dict[str, str]], message: str) -> None:
    with pytest.raises(RuntimeFault, match=message):
        namespaces.of(_spec(*entries))  # type: ignore[arg-type]


def test_time_offsets() -> None:
    offsets = {"monotonic": {"secs": -5, "nanosecs": 7}, "boottime": {"secs": 9}}
    text = namespaces.time_offsets(_spec(timeOffsets=offsets))  # type: ignore[arg-type]
    assert text == "monotonic -5 7\nboottime 9 0\n"


ALL = namespaces.Namespaces(["network", "ipc", "uts"], {})


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
        ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ("kernel.domainname", "kernel/domainname"),
    ],
)
def test_sysctls_of_a_namespace(key: str, path: str) -> None:
    assert namespaces._sysctl_path(key, ALL) == path


@pytest.mark.parametrize(
    "key",
    [
        "kernel.core_pattern",
        "vm.swappiness",
        "kernel",
        "",
        "net/../kernel/core_pattern",
        "net//../../etc/passwd",
        "/net/ipv4/x",
        "kernel.hostname",
        "network.x",
        "fs.mqueuex",
    ],
)
def test_sysctls_of_the_host_are_refused(key: str) -> None:
    with pytest.raises(RuntimeFault, match="is not in a separate kernel namespace"):
        namespaces._sysctl_path(key, ALL)


def test_sysctls_of_a_namespace_that_is_shared_are_refused() -> None:
    with pytest.raises(RuntimeFault, match="needs a network namespace of the container's own"):
        namespaces._sysctl_path("net.ipv4.ip_forward", namespaces.Namespaces(["ipc"], {}))


def test_rlimits() -> None:
    assert rlimits._value(-1) == rlimits._value(2**64 - 1) == resource.RLIM_INFINITY
    assert rlimits._value(1024) == 1024
    with pytest.raises(RuntimeFault, match="the soft limit 2 is above the hard limit 1"):
        rlimits.apply([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}])


def test_a_fault_crosses_the_channel_whole() -> None:
    ours, theirs = channel.pair()
    sent = CommandNotFound("exec", 'exec: "ü\udcff": executable file not found', 2, "ü\udcff", "a hint")
    theirs.send_fault(sent)
    theirs.close()
    message = ours.receive()
    assert message is not None
    got = channel.fault(message[0])
    assert type(got) is CommandNotFound
    assert (got.step, got.message, got.errno, got.path, got.hint) == ("exec", sent.message, 2, "ü\udcff", "a hint")
    assert ours.receive() is None
    ours.close()


def test_a_fault_arrives_though_something_was_left_unread() -> None:
    """The kernel answers ECONNRESET first: unix(7) sockets closed with data in them."""
    ours, theirs = channel.pair()
    ours.send("network")
    theirs.send_fault(RuntimeFault("mount", "cannot mount it", 1))
    theirs.close()
    message = ours.receive()
    assert message is not None and message[0]["message"] == "cannot mount it"
    assert ours.receive() is None
    ours.close()


def test_a_fault_of_any_length_arrives() -> None:
    ours, theirs = channel.pair()
    theirs.send_fault(CommandNotFound("exec", "\udcff" * 200_000, 2, "\U0001f40d" * 200_000))
    message = ours.receive()
    assert message is not None and channel.fault(message[0]).message.startswith("\udcff" * 1000)
    ours.close()
    theirs.close()
