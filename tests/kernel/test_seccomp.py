"""The compiled filters, loaded into children of this kernel: what a system call answers there."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import pickle
import platform
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import linux
from engine.errors import Unsupported, UsageError
from engine.runtime.defaults import DEFAULT_CAPABILITIES
from engine.runtime.seccomp import compile as seccomp
from engine.runtime.seccomp.profile import docker_default

pytestmark = pytest.mark.requires("linux", "libseccomp")

x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86_64's system call numbers")

_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: int) -> str:
    """The error's name, or "ok"."""
    ctypes.set_errno(0)
    _libc.syscall.restype = ctypes.c_long
    result = _libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def under(filter_: tuple[bytes, int], function: Callable[[], Any]) -> Any:
    """What `function` returns in a child under the filter; the signal's number, negative, if that ends it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
            linux.seccomp_set_filter(*filter_)
            os.write(writer, pickle.dumps(function()))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(pid, 0)
    return pickle.loads(answer) if answer else -os.WTERMSIG(status)


def custom(default: str, *rules: dict[str, Any], **more: Any) -> tuple[bytes, int]:
    return seccomp.compile_filter({"defaultAction": default, "syscalls": list(rules), **more}, None)


ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
GETPRIORITY = 140  # of x86_64; nothing needs it
PERSONALITY = 135


@pytest.fixture(scope="module")
def default() -> tuple[bytes, int]:
    return seccomp.default_filter(DEFAULT_CAPABILITIES, None)


@x86_64_only
class TestDefault:
    @pytest.mark.parametrize(
        ("name", "number", "arguments", "expected"),
        [
            ("getpid", 39, (), "ok"),
            ("keyctl", 250, (0, 0), "EPERM"),
            ("add_key", 248, (), "EPERM"),
            ("request_key", 249, (), "EPERM"),
            ("mount", 165, (), "EPERM"),
            ("umount2", 166, (), "EPERM"),
            ("pivot_root", 155, (), "EPERM"),
            ("open_tree", 428, (), "EPERM"),
            ("fsopen", 430, (), "EPERM"),
            ("setns", 308, (), "EPERM"),
            ("unshare, user namespace", 272, (linux.CLONE_NEWUSER,), "EPERM"),
            ("clone, user namespace", 56, (linux.CLONE_NEWUSER | signal.SIGCHLD,), "EPERM"),
            ("clone3", 435, (), "ENOSYS"),
            ("bpf", 321, (), "EPERM"),
            ("perf_event_open", 298, (), "EPERM"),
            ("userfaultfd", 323, (), "EPERM"),
            ("io_uring_setup", 425, (), "EPERM"),
            ("kexec_load", 246, (), "EPERM"),
            ("init_module", 175, (), "EPERM"),
            ("reboot", 169, (), "EPERM"),
            ("swapon", 167, (), "EPERM"),
            ("iopl", 172, (), "EPERM"),
            ("settimeofday", 164, (), "EPERM"),
            ("open_by_handle_at", 304, (), "EPERM"),
            ("personality, asked", PERSONALITY, (0xFFFFFFFF,), "ok"),
            ("personality, ADDR_NO_RANDOMIZE", PERSONALITY, (0x0040000,), "EPERM"),
            ("ptrace, no such process", 101, (16, 0), "ESRCH"),
            ("socket, inet", 41, (2, 1, 0), "ok"),
            ("socket, AF_VSOCK", 41, (40, 1, 0), "EPERM"),
            ("socket, AF_ALG", 41, (38, 5, 0), "EPERM"),
            ("newer than the profile", 4000, (), "ENOSYS"),
            ("x32, newer than the profile", 0x40000000 + 4000, (), "ENOSYS"),
        ],
    )
    def test_answers(
        self, default: tuple[bytes, int], name: str, number: int, arguments: tuple[int, ...], expected: str
    ) -> None:
        padded = arguments + (0,) * (6 - len(arguments))
        assert under(default, lambda: call(number, *padded)) == expected, name

    def test_a_plain_fork_passes(self, default: tuple[bytes, int]) -> None:
        def fork() -> int:
            pid = os.fork()
            if pid == 0:
                os._exit(7)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        assert under(default, fork) == 7

    def test_the_32_bit_entry_is_filtered_too(self, default: tuple[bytes, int]) -> None:
        results = under(default, lambda: [int80(number) for number in (20, 288, 21, 4000)])
        if results == -signal.SIGSEGV:
            pytest.skip("this kernel has no 32-bit system calls")
        getpid, keyctl, mount, unknown = results
        assert getpid > 0
        assert (keyctl, mount) == (-errno.EPERM, -errno.EPERM)
        assert unknown == -errno.ENOSYS

    def test_a_capability_opens_its_calls(self) -> None:
        admin = seccomp.default_filter([*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN"], None)
        assert under(admin, lambda: call(272, 0)) == "ok"  # unshare(0)
        assert under(admin, lambda: call(435, 0, 0)) != "ENOSYS"  # clone3
        assert under(admin, lambda: call(250, 0, 0)) == "EPERM"  # keyctl


def int80(number: int) -> int:
    """getpid and the like by i386's own entry, from x86_64 code: mov eax, number; int 0x80; ret."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(b"\x53\x31\xdb\x31\xc9\x31\xd2\xb8" + number.to_bytes(4, "little") + b"\xcd\x80\x5b\xc3")
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    return int(function())


@x86_64_only
class TestActions:
    @pytest.mark.parametrize(
        ("action", "expected"),
        [
            ("SCMP_ACT_ALLOW", "ok"),
            ("SCMP_ACT_LOG", "ok"),
            ("SCMP_ACT_ERRNO", "EPERM"),
            ("SCMP_ACT_TRACE", "ENOSYS"),  # nobody traces
            ("SCMP_ACT_TRAP", -signal.SIGSYS),
            ("SCMP_ACT_KILL", -signal.SIGSYS),
            ("SCMP_ACT_KILL_THREAD", -signal.SIGSYS),
            ("SCMP_ACT_KILL_PROCESS", -signal.SIGSYS),
        ],
    )
    def test_each(self, action: str, expected: str | int) -> None:
        default = "SCMP_ACT_LOG" if action == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW"
        filter_ = custom(default, {"names": ["getpriority"], "action": action})
        assert under(filter_, lambda: call(GETPRIORITY, 0, 0)) == expected

    def test_the_errno_of_a_rule(self) -> None:
        filter_ = custom("SCMP_ACT_ALLOW", {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 16})
        assert under(filter_, lambda: call(GETPRIORITY, 0, 0)) == "EBUSY"

    def test_unknown_names_are_left_out(self) -> None:
        rule = {"names": ["no_such_call", "getpriority"], "action": "SCMP_ACT_ERRNO"}
        assert under(custom("SCMP_ACT_ALLOW", rule), lambda: call(GETPRIORITY, 0, 0)) == "EPERM"

    def test_new_calls_are_not_touched_where_the_default_allows(self) -> None:
        assert under(custom("SCMP_ACT_LOG"), lambda: call(39)) == "ok"
        assert custom("SCMP_ACT_ALLOW")[0] == custom("SCMP_ACT_ALLOW", {"names": ["nix"], "action": "SCMP_ACT_LOG"})[0]


@x86_64_only
class TestConditions:
    @pytest.mark.parametrize(
        ("operator", "value", "second", "refused"),
        [
            ("SCMP_CMP_NE", 5, 0, {4, 6}),
            ("SCMP_CMP_LT", 5, 0, {4}),
            ("SCMP_CMP_LE", 5, 0, {4, 5}),
            ("SCMP_CMP_EQ", 5, 0, {5}),
            ("SCMP_CMP_GE", 5, 0, {5, 6}),
            ("SCMP_CMP_GT", 5, 0, {6}),
            ("SCMP_CMP_MASKED_EQ", 1, 1, {5}),
        ],
    )
    def test_each_operator(self, operator: str, value: int, second: int, refused: set[int]) -> None:
        arg = {"index": 1, "value": value, "valueTwo": second, "op": operator}
        filter_ = custom("SCMP_ACT_ALLOW", {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "args": [arg]})
        answers = under(filter_, lambda: {n: call(GETPRIORITY, 99, n) for n in (4, 5, 6)})
        assert {n for n, answer in answers.items() if answer == "EPERM"} == refused

    def test_several_conditions_must_all_hold(self) -> None:
        args = [{"index": index, "value": value, "op": "SCMP_CMP_EQ"} for index, value in ((0, 99), (1, 5))]
        filter_ = custom("SCMP_ACT_ALLOW", {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "args": args})
        assert under(filter_, lambda: [call(GETPRIORITY, *a) for a in ((99, 5), (99, 4), (98, 5))]) == [
            "EPERM",
            "EINVAL",
            "EINVAL",
        ]

    def test_several_of_one_argument_are_alternatives(self) -> None:
        args = [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"} for value in (4, 6)]
        filter_ = custom("SCMP_ACT_ALLOW", {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "args": args})
        answers = under(filter_, lambda: [call(GETPRIORITY, 99, n) for n in (4, 5, 6)])
        assert answers == ["EPERM", "EINVAL", "EPERM"]


def evaluate(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Runs a classic BPF program over a struct seccomp_data, as the kernel would; returns what the program returns."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    accumulator = pc = 0
    while True:
        code, if_true, if_false, constant = struct.unpack_from("=HBBI", program, pc * 8)
        pc += 1
        if code == 0x06:
            return int(constant)
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, constant)[0]
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x05:
            pc += constant
        else:
            tests = {0x15: accumulator == constant, 0x25: accumulator > constant}
            tests |= {0x35: accumulator >= constant, 0x45: bool(accumulator & constant)}
            pc += if_true if tests[code] else if_false


class TestEveryCall:
    """Each number of each architecture that the profile covers, whether this machine could run it or not."""

    @pytest.mark.parametrize(
        ("oci", "name", "audit", "bit"),
        [
            ("amd64", "X86_64", 0xC000003E, 0),
            ("amd64", "X32", 0xC000003E, 0x40000000),
            ("amd64", "X86", 0x40000003, 0),
            ("arm64", "AARCH64", 0xC00000B7, 0),
            ("arm64", "ARM", 0x40000028, 0),
        ],
    )
    def test_answers_as_the_profile_says(self, oci: str, name: str, audit: int, bit: int) -> None:
        import pyseccomp

        resolved = docker_default(DEFAULT_CAPABILITIES, oci, (6, 1))
        program = seccomp.compile_filter(resolved, None)[0]
        architecture = getattr(pyseccomp.Arch, name)
        rules = [(n, r) for r in resolved["syscalls"] for n in r["names"]]
        allowed = {n for n, r in rules if r["action"] == "SCMP_ACT_ALLOW" and "args" not in r}
        by_argument = {n for n, _ in rules} - allowed
        greatest = max(pyseccomp.resolve_syscall(architecture, n) for n, _ in rules)
        seen = set()
        for number in range(bit, bit + 600):
            try:
                called = pyseccomp.resolve_syscall(architecture, number).decode()
            except ValueError:
                called = "?"
            seen.add(called)
            if called not in by_argument:
                expected = ALLOW if called in allowed else ENOSYS if number > greatest else EPERM
                assert evaluate(program, audit, number) == expected, (number, called)
        assert len(seen & allowed) > 200

    def test_another_architecture_is_killed(self) -> None:
        program = seccomp.compile_filter(docker_default([], "amd64", (6, 1)), None)[0]
        assert evaluate(program, 0xC00000B7, 63) == 0  # SECCOMP_RET_KILL_THREAD


class TestRefused:
    @pytest.mark.parametrize(
        "profile",
        [
            {"defaultAction": "SCMP_ACT_NONE"},
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]},
            {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]},
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {
                        "names": ["read"],
                        "action": "SCMP_ACT_ERRNO",
                        "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}],
                    }
                ],
            },
        ],
    )
    def test_what_the_specification_does_not_have(self, profile: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            seccomp.compile_filter(profile, None)

    def test_notify(self) -> None:
        with pytest.raises(Unsupported, match="NOTIFY"):
            custom("SCMP_ACT_ALLOW", {"names": ["read"], "action": "SCMP_ACT_NOTIFY"})


def test_flags() -> None:
    assert custom("SCMP_ACT_ALLOW")[1] == 4
    assert custom("SCMP_ACT_ALLOW", flags=[])[1] == 0
    assert custom("SCMP_ACT_ALLOW", flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"])[1] == 3


class TestCache:
    @pytest.fixture
    def no_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From here on, whoever compiles fails."""

        def missing() -> Any:
            raise Unsupported("libseccomp was loaded")

        monkeypatch.setattr(seccomp, "library", missing)
        monkeypatch.setattr("engine.runtime.seccomp.bpf.library", missing)

    def test_the_default_is_compiled_once(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        cache = f"{tmp_path}/seccomp"
        first = seccomp.default_filter(DEFAULT_CAPABILITIES, cache)
        assert len(os.listdir(cache)) == 1
        request.getfixturevalue("no_library")
        assert seccomp.default_filter(list(reversed(DEFAULT_CAPABILITIES)), cache) == first
        with pytest.raises(Unsupported, match="was loaded"):
            seccomp.default_filter([], cache)

    def test_another_is_found_by_its_content(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}
        first = seccomp.compile_filter(profile, str(tmp_path))
        request.getfixturevalue("no_library")
        assert seccomp.compile_filter(dict(reversed(profile.items())), str(tmp_path)) == first
        with pytest.raises(Unsupported, match="was loaded"):
            seccomp.compile_filter({**profile, "flags": []}, str(tmp_path))

    @pytest.mark.parametrize("damage", [b"", b"\0" * 16, b"BCP1\0\0\0\0", b"BCP1\0\0\0\0" + b"\0" * 9])
    def test_a_damaged_file_is_made_again(self, tmp_path: Path, damage: bytes) -> None:
        profile = {"defaultAction": "SCMP_ACT_ALLOW"}
        good = seccomp.compile_filter(profile, str(tmp_path))
        (file,) = tmp_path.iterdir()
        content = file.read_bytes()
        file.write_bytes(damage)
        assert seccomp.compile_filter(profile, str(tmp_path)) == good
        assert file.read_bytes() == content
