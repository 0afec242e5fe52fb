"""The OCI runtime specification's config.json, as the plain JSON it is.

One model and no second format: a spec is a `dict` with the specification's own field names, because the hot path reads
it as JSON, changes a few fields and hands it on (dataclasses would cost 14 ms of imports: docs/decisions/0002). The types
below exist for readers and for mypy only. https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NotRequired, TypedDict

    class Mount(TypedDict):
        """A mount as data. `options` are mount(8)'s words, flags and `key=value` alike; `type` "bind" or a file system.

        `fd` is mini's own and in no config.json: the source of a bind as a detached mount, which whoever starts the
        container holds; `source` only names it then.
        """

        destination: str
        type: NotRequired[str]
        source: NotRequired[str]
        options: NotRequired[list[str]]
        uidMappings: NotRequired[list[dict[str, int]]]
        gidMappings: NotRequired[list[dict[str, int]]]
        fd: NotRequired[int]

    class Process(TypedDict):
        """What to execute: `args`, `env` ("K=V"), `cwd`, `user` {uid, gid, additionalGids}, `capabilities` …"""

        args: list[str]
        cwd: str
        env: NotRequired[list[str]]
        terminal: NotRequired[bool]
        consoleSize: NotRequired[dict[str, int]]
        user: NotRequired[dict[str, Any]]
        capabilities: NotRequired[dict[str, list[str]]]
        rlimits: NotRequired[list[dict[str, Any]]]
        noNewPrivileges: NotRequired[bool]
        oomScoreAdj: NotRequired[int]
        scheduler: NotRequired[dict[str, Any]]
        ioPriority: NotRequired[dict[str, Any]]
        execCPUAffinity: NotRequired[dict[str, str]]
        apparmorProfile: NotRequired[str]
        selinuxLabel: NotRequired[str]

    class Spec(TypedDict):
        ociVersion: str
        root: dict[str, Any]
        process: NotRequired[Process]
        hostname: NotRequired[str]
        domainname: NotRequired[str]
        mounts: NotRequired[list[Mount]]
        linux: NotRequired[dict[str, Any]]
        hooks: NotRequired[dict[str, Any]]
        annotations: NotRequired[dict[str, str]]
