"""The shape of `linux.seccomp`: a table, one entry a field, and what several fields say together.

OCI runtime spec 1.2, config-linux.md, "Seccomp".
"""

from __future__ import annotations

from engine.errors import Unsupported
from engine.runtime.seccomp import words as seccomp
from engine.runtime.validate import absolute, bad, integer, listing, record, string, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_u64 = integer(0, (1 << 64) - 1)

_SECCOMP = record(
    {
        "defaultAction": word(seccomp.ACTIONS, "seccomp action"),
        "defaultErrnoRet": integer(0, 65535),
        "architectures": listing(word(seccomp.ARCHITECTURES, "seccomp architecture")),
        "flags": listing(word(seccomp.FLAGS, "seccomp flag")),
        "listenerPath": absolute,
        "listenerMetadata": string,
        "syscalls": listing(
            record(
                {
                    "names": listing(string, least=1),
                    "action": word(seccomp.ACTIONS, "seccomp action"),
                    "errnoRet": integer(0, 65535),
                    "args": listing(
                        record(
                            {
                                "index": integer(0, 5),
                                "value": _u64,
                                "valueTwo": _u64,
                                "op": word(seccomp.OPERATORS, "seccomp operator"),
                            },
                            "index value op",
                        )
                    ),
                },
                "names action",
            )
        ),
    },
    "defaultAction",
)


def check(value: Any, path: str) -> None:
    """Raises UsageError, naming the field, and Unsupported."""
    _SECCOMP(value, path)
    _rules(value, path)


def _rules(wanted: dict[str, Any], path: str) -> None:
    rules = [(wanted["defaultAction"], wanted.get("defaultErrnoRet"), f"{path}.defaultErrnoRet")]
    for number, rule in enumerate(wanted.get("syscalls", ())):
        rules.append((rule["action"], rule.get("errnoRet"), f"{path}.syscalls[{number}].errnoRet"))
    for action, value, where in rules:
        if value is not None and action not in seccomp.WITH_NUMBER:
            raise bad(where, f"{action} has no number")
    notifies = {
        name for rule in wanted.get("syscalls", ()) if rule["action"] == seccomp.NOTIFY for name in rule["names"]
    }
    if wanted["defaultAction"] == seccomp.NOTIFY or "sendmsg" in notifies:  # by which the agent's descriptor leaves
        raise Unsupported(f"{path}: {seccomp.NOTIFY} for sendmsg would stop the runtime itself")
    if notifies and not wanted.get("listenerPath"):
        raise bad(f"{path}.listenerPath", f"is required for {seccomp.NOTIFY}")
    if wanted.get("listenerMetadata") and not wanted.get("listenerPath"):
        raise bad(f"{path}.listenerMetadata", "there is no listenerPath that it could be for")
