"""exec: a further process in a running container, its own child by whoever starts it (process/exec.py)."""

from __future__ import annotations

import os

from engine import files
from engine.errors import Conflict, StoreError, UsageError
from engine.runtime import state, validate
from engine.runtime.oci_cli import bundle
from engine.runtime.process import exec as joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.oci.runtime import Process, Spec
    from engine.runtime.cgroups.below import Below
    from engine.runtime.cgroups.manager import Cgroup
    from engine.runtime.oci_cli.context import Context
    from engine.runtime.process.launch import InitProcess
    from engine.runtime.state import Container


def exec_(ctx: Context, options: dict[str, Any], arguments: list[str]) -> int:
    container = state.find(ctx.root, arguments[0])
    status = container.status()
    if status not in ("created", "running", "paused"):
        raise Conflict(f"cannot exec in a {status} container")
    if status == "paused" and not options.get("ignore-paused"):
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    spec = container.spec()
    process, warnings = _process(spec, options, arguments[1:])
    for text in warnings:
        ctx.log.warning(text)
    detach = options.get("detach", False)
    bundle.check_terminal(process, detach, options.get("console-socket"))
    made = joined.spawn(
        container.pid,
        process,
        stdio=None,
        cgroup=_cgroup(container, options.get("cgroup", [])),
        seccomp=bundle.seccomp(spec.get("linux") or {}, ctx.seccomp_cache),
        preserved=bundle.preserve(options, process),
        notify=bundle.notifier(spec.get("linux") or {}, container.state()),
        settings=spec.get("linux") or {},
    )
    _hand_over(made, options)
    if detach:
        made.start()
        made.close()
        return 0
    from engine.runtime.oci_cli.relay import Relay

    with Relay(made) as relay:
        made.start()
        return relay.wait()


def _hand_over(made: InitProcess, options: dict[str, Any]) -> None:
    try:
        if options.get("console-socket"):
            bundle.send_console(options["console-socket"], made)
        if options.get("pidfd-socket"):
            bundle.send_pidfd(options["pidfd-socket"], made, "setns")
        if options.get("pid-file"):
            files.write_atomic(os.path.abspath(options["pid-file"]), str(made.pid).encode(), sync=False)
    except BaseException:
        made.abandon()
        raise


def _process(spec: Spec, options: dict[str, Any], command: list[str]) -> tuple[Process, list[str]]:
    """That of `--process`, or the container's own with what the command line says; and what to warn of. Raises UsageError."""
    if options.get("process"):
        process: Process = _from_file(options["process"])
    elif command:
        process = _from_options(spec["process"], options, command)
    else:
        raise UsageError("process args cannot be empty")
    return validate.checked_process(process)


def _from_file(path: str) -> Any:
    try:
        process = files.read_json(path)
    except FileNotFoundError:
        raise UsageError(f"open {path}: no such file or directory") from None
    except StoreError as e:
        raise UsageError(e.message) from e
    if not isinstance(process, dict):
        raise UsageError(f"{path} is not a process")
    return process


def _from_options(container: Process, options: dict[str, Any], command: list[str]) -> Process:
    process: dict[str, Any] = {**container, "args": command, "terminal": options.get("tty", False)}
    process["cwd"] = options.get("cwd") or container["cwd"]
    process["env"] = [*container.get("env", ()), *options.get("env", ())]
    for option, name in (("apparmor", "apparmorProfile"), ("process-label", "selinuxLabel")):
        if options.get(option):
            process[name] = options[option]
    if "no-new-privs" in options:
        process["noNewPrivileges"] = options["no-new-privs"]
    process["user"] = _user(container.get("user", {}), options)
    if options.get("cap"):
        process["capabilities"] = _capabilities(container.get("capabilities") or {}, options["cap"])
    return process  # type: ignore[return-value]


def _user(user: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    result = dict(user)
    if options.get("user"):
        uid, colon, gid = options["user"].partition(":")
        result["uid"] = _id(uid)
        if colon:
            result["gid"] = _id(gid)
    groups = [_id(word) for words in options.get("additional-gids", ()) for word in words.split(",")]
    return {**result, "additionalGids": [*(user.get("additionalGids") or ()), *groups]}


def _id(text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"not a numeric id: {text!r}")
    return int(text)


def _capabilities(sets: dict[str, list[str]], more: list[str]) -> dict[str, list[str]]:
    """As runc: ambient ones only where there are inheritable ones, without which the kernel has none."""
    names = ["bounding", "effective", "permitted", *(["ambient"] if sets.get("inheritable") else [])]
    return sets | {name: [*(sets.get(name) or ()), *more] for name in names}


def _cgroup(container: Container, below: list[str]) -> Cgroup | Below | None:
    """The container's cgroup, or those below it that `--cgroup` names."""
    cgroup = container.cgroup
    if not below or not cgroup:
        return cgroup
    from engine.runtime.cgroups.below import Below

    return Below(cgroup, below)
