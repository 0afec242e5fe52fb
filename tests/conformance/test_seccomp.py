"""config-linux.md, "Seccomp" and "The Container Process State"."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import platform
import signal
import socket
import struct
from typing import Any

import pytest

from tests.support.conformance import PROBE, Container
from tests.support.requirements import CHECKOUT

# linux/seccomp.h
SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND = 0xC0502100, 0xC0182101
MKDIR = "attempt(os.mkdir, '/tmp/new')"
ARCHITECTURE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}.get(
    platform.machine(), "SCMP_ARCH_RISCV64"
)


def rule(action: str, *args: tuple[int, int, str] | tuple[int, int, str, int], **more: Any) -> dict[str, Any]:
    """About mkdir(2), unless `names` says otherwise. An argument: (index, value, operator, second value)."""
    found = {"names": ["mkdir", "mkdirat"], "action": action} | more
    if args:
        found["args"] = [
            {"index": index, "value": value, "op": f"SCMP_CMP_{op}"} | ({"valueTwo": second[0]} if second else {})
            for index, value, op, *second in args
        ]
    return found


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "architectures": [ARCHITECTURE], "syscalls": [*rules]} | more


# Actions


def test_allow(container: Container) -> None:
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ALLOW"), default="SCMP_ACT_LOG")
    assert container.python(MKDIR) == "ok"


def test_errno(container: Container) -> None:
    """Seccomp: "`errnoRet` … If not specified its default value is `EPERM`"."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ERRNO"))
    assert container.python(MKDIR) == "EPERM"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EDOM, 1])
def test_errno_ret(container: Container, number: int) -> None:
    """Seccomp: "`errnoRet` (uint, OPTIONAL) - the errno return code to use"."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ERRNO", errnoRet=number))
    assert container.python(MKDIR) == errno.errorcode[number]


def test_log(container: Container) -> None:
    container.linux["seccomp"] = profile(rule("SCMP_ACT_LOG"))
    assert container.python(MKDIR) == "ok"


def test_trace_without_a_tracer(container: Container) -> None:
    """seccomp(2): ENOSYS."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_TRACE", errnoRet=1))
    assert container.python(MKDIR) == "ENOSYS"


def test_trap(container: Container) -> None:
    """seccomp(2): SIGSYS, which can be handled."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_TRAP"))
    script = "import signal\nsignal.signal(signal.SIGSYS, lambda *_: (os.write(1, b'\"trapped\"'), os._exit(0)))\n"
    assert container.python(f"{script}while True: libc.mkdir(b'/tmp/new', 0)") == "trapped"


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"])
def test_kill(container: Container, action: str) -> None:
    """seccomp(2): the thread or process ends as by SIGSYS."""
    container.linux["seccomp"] = profile(rule(action))
    script = "pid = os.fork()\nif not pid: os.mkdir('/tmp/new'); os._exit(0)\ntell(os.waitpid(pid, 0)[1] & 127)"
    assert container.python(script) == signal.SIGSYS


def test_kill_of_init(container: Container) -> None:
    container.linux["seccomp"] = profile(rule("SCMP_ACT_KILL_PROCESS"))
    assert container.run("mkdir", "/tmp/new").code == 128 + signal.SIGSYS


def test_the_default_action(container: Container) -> None:
    """Seccomp: "`defaultAction` (string, REQUIRED)": for whatever no rule names."""
    container.linux["seccomp"] = _all_but_mkdir()
    assert container.python(MKDIR) == "EPERM"


def test_the_default_errno(container: Container) -> None:
    """Seccomp: "`defaultErrnoRet` (uint, OPTIONAL) - the errno return code to use"."""
    container.linux["seccomp"] = _all_but_mkdir() | {"defaultErrnoRet": errno.ENOSYS}
    assert container.python(MKDIR) == "ENOSYS"


def _all_but_mkdir() -> dict[str, Any]:
    """Every system call that mini's default profile names, and those that it allows with a capability."""
    with open(f"{CHECKOUT}/engine/runtime/seccomp/default.json") as file:
        names = {name for entry in json.load(file)["syscalls"] for name in entry["names"]}
    allowed = {"names": sorted(names - {"mkdir", "mkdirat"}), "action": "SCMP_ACT_ALLOW"}
    return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": [ARCHITECTURE], "syscalls": [allowed]}


# Arguments: of sched_get_priority_max(2), which no runtime calls


@pytest.mark.parametrize(
    ("op", "value", "refused"),
    [
        ("EQ", 2, {2}),
        ("NE", 2, {0, 1, 3, 4}),
        ("LT", 2, {0, 1}),
        ("LE", 2, {0, 1, 2}),
        ("GT", 2, {3, 4}),
        ("GE", 2, {2, 3, 4}),
    ],
)
def test_operators(container: Container, op: str, value: int, refused: set[int]) -> None:
    """Seccomp: "`op` (string, REQUIRED) - the operator for syscall arguments in seccomp"."""
    container.linux["seccomp"] = profile(
        rule("SCMP_ACT_ERRNO", (0, value, op), names=["sched_get_priority_max"], errnoRet=errno.EDOM)
    )
    assert _refused(container) == refused


def test_masked_equality(container: Container) -> None:
    """Seccomp: `SCMP_CMP_MASKED_EQ`: `value` is the mask, `valueTwo` what is compared with."""
    masked = rule("SCMP_ACT_ERRNO", (0, 1, "MASKED_EQ", 1), names=["sched_get_priority_max"], errnoRet=errno.EDOM)
    container.linux["seccomp"] = profile(masked)
    assert _refused(container) == {1, 3}


def _refused(container: Container) -> set[int]:
    """The numbers, 0 to 4, for which it says EDOM."""
    script = "tell([n for n in range(5) if outcome(call, 'sched_get_priority_max', n) == 'EDOM'])"
    return {*container.python(script)}


def test_several_arguments(container: Container) -> None:
    """Seccomp: `args` of one rule must all match."""
    both = rule(
        "SCMP_ACT_ERRNO",
        (0, socket.AF_INET, "EQ"),
        (1, socket.SOCK_DGRAM, "MASKED_EQ", socket.SOCK_DGRAM),
        names=["socket"],
    )
    container.linux["seccomp"] = profile(both)
    script = "tell([outcome(socket.socket, kind, how) for kind in (2, 10) for how in (1, 2)])"
    assert container.python(script) == ["ok", "EPERM", "ok", "ok"]


def test_several_rules_of_a_call(container: Container) -> None:
    """Seccomp: any of them matches."""
    container.linux["seccomp"] = profile(
        *(
            rule("SCMP_ACT_ERRNO", (0, value, "EQ"), names=["sched_get_priority_max"], errnoRet=errno.EDOM)
            for value in (1, 3)
        )
    )
    assert _refused(container) == {1, 3}


def test_an_argument_of_64_bits(container: Container) -> None:
    """Seccomp: "`value` (uint64, REQUIRED)": the upper half counts."""
    container.linux["seccomp"] = profile(
        rule("SCMP_ACT_ERRNO", (1, 5 << 32, "EQ"), names=["ftruncate"], errnoRet=errno.EDOM)
    )
    script = "file = os.open('/tmp/new', os.O_RDWR | os.O_CREAT)\ntell([outcome(os.ftruncate, file, n) for n in (5 << 32, 5)])"
    assert container.python(script) == ["EDOM", "ok"]


# What else a profile has


def test_it_is_a_filter(container: Container) -> None:
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ERRNO"))
    assert container.report()["status"]["Seccomp"] == "2"


def test_without_a_profile(container: Container) -> None:
    assert container.report()["status"]["Seccomp"] == "0"


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_for_an_ordinary_user(container: Container, no_new_privileges: bool) -> None:
    """With or without no_new_privs, which a filter needs where nobody has CAP_SYS_ADMIN (seccomp(2))."""
    container.process["noNewPrivileges"] = no_new_privileges
    container.process["user"] = {"uid": 1000, "gid": 1000}
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ERRNO"))
    container.process["args"] = [PROBE]
    assert container.report()["status"]["NoNewPrivs"] == str(int(no_new_privileges))
    assert container.python(MKDIR) == "EPERM"


def test_it_covers_what_exec_starts(container: Container) -> None:
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ERRNO"))
    container.started()
    assert container.exec("mkdir", "/tmp/new").code != 0


def test_start_container_hooks_are_filtered(container: Container) -> None:
    """StartContainer: the hook runs in the container, with what the container may do; runc and crun do so."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_KILL_PROCESS"))
    script = "cat > /dev/null; echo > /tmp/ran; mkdir /tmp/new"
    container.spec["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    container.run("true")
    assert os.path.exists(f"{container.upper}/tmp/ran") and not os.path.exists(f"{container.upper}/tmp/new")


@pytest.mark.differs(runc="knows no flags yet")
@pytest.mark.parametrize(
    "flag", ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]
)
def test_flags(container: Container, flag: str) -> None:
    """Seccomp: "`flags` (array of strings, OPTIONAL) - list of flags to use with seccomp(2)"."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ERRNO"), flags=[flag])
    assert container.python(MKDIR) == "EPERM"


@pytest.mark.differs(runc="knows no flags yet")
def test_speculation_is_allowed(container: Container) -> None:
    """Seccomp: SPEC_ALLOW leaves speculative store bypass as it was, which a filter else switches off."""
    container.linux["seccomp"] = profile(flags=["SECCOMP_FILTER_FLAG_SPEC_ALLOW"])
    with_flag = container.report()["status"].get("Speculation_Store_Bypass")
    del container.linux["seccomp"]
    assert with_flag == container.report()["status"].get("Speculation_Store_Bypass")


@pytest.mark.parametrize(
    "architectures",
    [[ARCHITECTURE], [ARCHITECTURE, "SCMP_ARCH_X86", "SCMP_ARCH_X32"], ["SCMP_ARCH_X86", "SCMP_ARCH_ARM"], None],
    ids=str,
)
def test_architectures(container: Container, architectures: list[str] | None) -> None:
    """Seccomp: "`architectures` (array of strings, OPTIONAL)": the host's own always is among them (the section's example)."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ERRNO"), architectures=architectures)
    if architectures is None:
        del container.linux["seccomp"]["architectures"]
    assert container.python(MKDIR) == "EPERM"


def test_a_call_that_this_architecture_does_not_have(container: Container) -> None:
    """What profiles for every architecture rely on: such a name is passed over."""
    container.linux["seccomp"] = profile(
        rule("SCMP_ACT_ERRNO"), rule("SCMP_ACT_ALLOW", names=["breakpoint", "cacheflush"])
    )
    assert container.python(MKDIR) == "EPERM"


LAX = pytest.mark.differs(runc="does not look", crun="does not look")
RUNC_LAX = pytest.mark.differs(runc="does not look")


@pytest.mark.parametrize(
    "value",
    [
        {"defaultAction": "SCMP_ACT_NONSENSE"},
        {"architectures": ["SCMP_ARCH_NONSENSE"]},
        {"flags": ["SECCOMP_FILTER_FLAG_NONSENSE"]},
        {"syscalls": [rule("SCMP_ACT_NONSENSE")]},
        {"syscalls": [rule("SCMP_ACT_ERRNO", (0, 1, "NONSENSE"))]},
        {"syscalls": [rule("SCMP_ACT_ERRNO", (6, 1, "EQ"))]},
        pytest.param({"syscalls": [rule("SCMP_ACT_ERRNO", names=[])]}, marks=LAX),
        pytest.param({"syscalls": [rule("SCMP_ACT_ALLOW", errnoRet=1)]}, marks=RUNC_LAX),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_nonsense(container: Container, value: dict[str, Any]) -> None:
    """Seccomp: "When the action doesn't support an errno, the runtime MUST print and error and fail"; constants are listed."""
    container.linux["seccomp"] = profile() | value
    assert container.attempt("run").code != 0


# SCMP_ACT_NOTIFY


def _notified(container: Container) -> tuple[dict[str, Any], int, Any]:
    """The container process state that came over the socket, the filter's descriptor, and the command that is running."""
    path = f"{container.bundle}/agent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(60)
        container.linux["seccomp"] = profile(
            rule("SCMP_ACT_NOTIFY"), listenerPath=path, listenerMetadata="of the agent's"
        )
        container.spec["annotations"] = {"com.example.key": "value"}
        container.save()
        process = container.runtime.start("run", "--bundle", container.bundle, container.id)
        connection, _ = listener.accept()
    with connection:
        connection.settimeout(60)
        data, messages, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(64))
        while data.count(b"{") > data.count(b"}"):
            data += connection.recv(65536)
    descriptors = array.array("i")
    descriptors.frombytes(messages[0][2])
    return json.loads(data), descriptors[0], process


def _received(descriptor: int) -> bytes:
    """The next request, of which ENOENT says that it was taken back: the system call was interrupted, and comes again."""
    for _ in range(10):
        request = bytearray(80)
        try:
            fcntl.ioctl(descriptor, SECCOMP_IOCTL_NOTIF_RECV, request)
            return bytes(request)
        except FileNotFoundError:
            continue
    raise AssertionError("no request is left standing")


def test_notify(container: Container) -> None:
    """Seccomp: "`listenerPath` … UNIX domain socket over which the runtime will send the container process state"."""
    container.process["args"] = ["mkdir", "/tmp/new"]
    state, descriptor, process = _notified(container)
    number = struct.unpack_from("Q", _received(descriptor))[0]
    fcntl.ioctl(descriptor, SECCOMP_IOCTL_NOTIF_SEND, struct.pack("QqiI", number, 0, -errno.EDOM, 0))
    os.close(descriptor)
    _, err = process.communicate(timeout=60)
    assert "Numerical argument out of domain" in err
    assert state["fds"] == ["seccompFd"]


def test_an_agent_that_goes(container: Container) -> None:
    """seccomp_unotify(2): ENOSYS for whoever waits for it, and for whoever comes after."""
    container.process["args"] = ["mkdir", "/tmp/new"]
    _, descriptor, process = _notified(container)
    os.close(descriptor)
    assert "Function not implemented" in process.communicate(timeout=60)[1]


def test_notify_in_exec(container: Container) -> None:
    """A process that is executed has a filter, and a descriptor, of its own."""
    path = f"{container.bundle}/agent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(60)
        container.linux["seccomp"] = profile(rule("SCMP_ACT_NOTIFY"), listenerPath=path)
        container.started("sleep", "60")
        process = container.runtime.start("exec", container.id, "mkdir", "/tmp/new")
        descriptors = []
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                descriptors += socket.recv_fds(connection, 65536, 1)[1]
    for descriptor in descriptors:
        os.close(descriptor)
    assert "Function not implemented" in process.communicate(timeout=60)[1]


def test_the_container_process_state(container: Container) -> None:
    """The Container Process State: `ociVersion`, `fds`, `pid`, `metadata`, `state`."""
    state, descriptor, process = _notified(container)
    os.close(descriptor)
    process.communicate(timeout=60)
    assert (state["metadata"], state["fds"]) == ("of the agent's", ["seccompFd"])
    assert state["state"]["id"] == container.id and state["state"]["bundle"] == container.bundle
    assert state["state"]["status"] in ("creating", "created", "running")
    assert state["pid"] == state["state"]["pid"] > 0
    assert state["state"]["annotations"]["com.example.key"] == "value"
    assert "ociVersion" in state


def test_notify_without_an_agent(container: Container) -> None:
    """Seccomp: "If sending to this socket fails, the runtime MUST generate an error"."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_NOTIFY"), listenerPath=f"{container.bundle}/nobody")
    assert container.attempt("run").code != 0


@pytest.mark.differs(crun="runs it")
def test_notify_without_a_path(container: Container) -> None:
    container.linux["seccomp"] = profile(rule("SCMP_ACT_NOTIFY"))
    assert container.attempt("run").code != 0


@pytest.mark.differs(crun="connects to it")
def test_a_path_that_nothing_needs(container: Container) -> None:
    """Seccomp: "If the `SCMP_ACT_NOTIFY` action is not used this value is ignored"."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ERRNO"), listenerPath=f"{container.bundle}/nobody")
    assert container.python(MKDIR) == "EPERM"


@pytest.mark.differs(runc="does not look", crun="does not look")
def test_metadata_without_a_path(container: Container) -> None:
    """Seccomp: "This field MUST NOT be set if `listenerPath` is not set"."""
    container.linux["seccomp"] = profile(rule("SCMP_ACT_ERRNO"), listenerMetadata="text")
    container.refused()
