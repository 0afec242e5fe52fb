"""Docker's profile format, resolved for capabilities, architecture and kernel."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Unsupported, UsageError
from engine.runtime.defaults import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from engine.runtime.seccomp import profile
from engine.runtime.seccomp.compile import compile_filter

KERNEL = (6, 1)


def rules(resolved: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in rule.items() if k != "names"} for rule in resolved["syscalls"] if name in rule["names"]]


def test_the_version_names_the_profile() -> None:
    """A changed profile under the same version would find the filter compiled from the old one."""
    with open(os.path.join(os.path.dirname(profile.__file__), "default.json"), "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest()[:12] == profile.PROFILE_VERSION


class TestDefault:
    RESOLVED = profile.docker_default(DEFAULT_CAPABILITIES, "amd64", KERNEL)

    def test_it_refuses_what_it_does_not_name(self) -> None:
        assert (self.RESOLVED["defaultAction"], self.RESOLVED["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
        for name in ("mount", "keyctl", "add_key", "bpf", "kexec_load", "userfaultfd", "io_uring_setup", "unshare"):
            assert rules(self.RESOLVED, name) == [], name

    def test_it_allows_the_everyday(self) -> None:
        for name in ("read", "openat2", "execve", "futex_wake", "landlock_create_ruleset", "chroot", "ptrace"):
            assert rules(self.RESOLVED, name) == [{"action": "SCMP_ACT_ALLOW"}], name

    def test_clone_may_not_make_namespaces(self) -> None:
        mask = 0x7E020000  # the CLONE_NEW* that clone(2) takes
        assert rules(self.RESOLVED, "clone") == [
            {"action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": mask, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]
        assert rules(self.RESOLVED, "clone3") == [{"action": "SCMP_ACT_ERRNO", "errnoRet": 38}]

    def test_sockets_by_family(self) -> None:
        arguments = [rule["args"][0] for rule in rules(self.RESOLVED, "socket")]
        exact = {arg["value"] for arg in arguments if arg["op"] == "SCMP_CMP_EQ"}
        assert {16, 17, 29} <= exact  # netlink, packet, CAN
        assert not exact & {38, 40}  # ALG, VSOCK

    def test_a_capability_opens_what_it_is_for(self) -> None:
        admin = profile.docker_default([*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN"], "amd64", KERNEL)
        for name in ("mount", "unshare", "clone", "clone3", "setns", "bpf"):
            assert rules(admin, name)[0] == {"action": "SCMP_ACT_ALLOW"}, name
        assert rules(admin, "keyctl") == []
        chroot = set(DEFAULT_CAPABILITIES) - {"CAP_SYS_CHROOT"}
        assert rules(profile.docker_default(chroot, "amd64", KERNEL), "chroot") == []

    def test_architectures(self) -> None:
        assert self.RESOLVED["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        arm = profile.docker_default(DEFAULT_CAPABILITIES, "arm64", KERNEL)
        assert arm["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
        assert rules(arm, "arch_prctl") == []
        assert rules(arm, "set_tls") == [{"action": "SCMP_ACT_ALLOW"}]
        assert rules(profile.docker_default([], "s390x", KERNEL), "clone")[0]["args"][0]["index"] == 1
        assert profile.docker_default([], "ppc64le", KERNEL)["architectures"] == ["SCMP_ARCH_PPC64LE"]

    def test_ptrace_needs_a_kernel_where_it_cannot_escape_the_filter(self) -> None:
        assert rules(profile.docker_default([], "amd64", (4, 4)), "ptrace") == []
        assert rules(profile.docker_default(["CAP_SYS_PTRACE"], "amd64", (4, 4)), "ptrace")


class TestFile:
    def load(self, directory: Path, value: object, **facts: Any) -> dict[str, Any]:
        path = directory / "profile.json"
        path.write_text(json.dumps(value) if not isinstance(value, str) else value)
        return profile.from_file(str(path), **facts)

    def test_ocis_format(self, tmp_path: Path) -> None:
        oci = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}],
        }
        assert self.load(tmp_path, oci) == oci

    def test_dockers_format_takes_the_facts_given(self, tmp_path: Path) -> None:
        value = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
            "syscalls": [
                {"name": "read", "action": "SCMP_ACT_ALLOW", "args": None, "includes": {}, "excludes": {}},
                {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF", "CAP_SYS_ADMIN"]}},
                {"names": ["mlock2"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.0"}},
            ],
        }
        few = self.load(tmp_path, value, capabilities=["CAP_BPF"], architecture="arm64", kernel=(5, 10))
        assert few["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
        assert few["syscalls"] == [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]
        many = self.load(tmp_path, value, capabilities=ALL_CAPABILITIES, architecture="arm64", kernel=(4, 19))
        assert [rule["names"] for rule in many["syscalls"]] == [["read"], ["bpf"], ["mlock2"]]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("{", "is not JSON"),
            ("[]", "is not a seccomp profile"),
            ({"syscalls": []}, "no defaultAction"),
            (
                {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{}]},
                "either architectures or archMap",
            ),
            ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"]}]}, "not a seccomp rule"),
            (
                {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "x"}]},
                "either name or names",
            ),
        ],
    )
    def test_refused(self, tmp_path: Path, value: object, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            self.load(tmp_path, value)

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such file"):
            profile.from_file(f"{tmp_path}/none")


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    with pytest.raises(Unsupported, match="needs libseccomp") as caught:
        compile_filter({"defaultAction": "SCMP_ACT_ALLOW"}, None)
    assert "apt install libseccomp2" in (caught.value.hint or "")


def test_dockers_capabilities_are_those_measured() -> None:
    assert sum(1 << ALL_CAPABILITIES[name] for name in DEFAULT_CAPABILITIES) == 0xA80425FB
    assert (ALL_CAPABILITIES["CAP_SYS_ADMIN"], ALL_CAPABILITIES["CAP_CHECKPOINT_RESTORE"]) == (21, 40)
