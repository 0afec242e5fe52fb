"""`--mount type=…,key=value,…` as Docker reads it: first its client (cli, opts/mount.go), then its daemon (moby, volume/mounts)."""

from __future__ import annotations

import os
import posixpath

from engine.errors import Unsupported, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_RECURSIONS = ("enabled", "disabled", "writable", "readonly")
_SUFFIXES = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_BARE = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")
_TARGET, _SOURCE = ("target", "dst", "destination"), ("source", "src")


def parse(value: str, cwd: str) -> dict[str, Any]:
    """The mount as Docker's HostConfig.Mounts has it: Type, Source, Target, ReadOnly, BindOptions … Pure.

    Raises UsageError in Docker's words, Unsupported for what mini does not have.
    """
    mount: dict[str, Any] = {"Type": "volume"}
    if not value:
        raise _invalid(value, "EOF")
    for field in _fields(value):
        key, equals, text = field.partition("=")
        key = key.lower()
        if not equals and key not in _BARE:
            raise _invalid(value, f"invalid field '{field}' must be a key=value pair")
        _set(mount, key, text if equals else "true", field, value, cwd)
    kind = mount["Type"]
    if not mount.get("Target"):
        raise _invalid(value, "target is required")
    for prefix, own in (("Volume", "volume"), ("Bind", "bind"), ("Tmpfs", "tmpfs")):
        if f"{prefix}Options" in mount and kind != own:
            raise _invalid(value, f"cannot mix '{own}-*' options with mount type '{kind}'")
    return mount


def _fields(value: str) -> list[str]:
    """Comma-separated, with CSV's quotes (`"a,b"` is one, `""` in it a quote)."""
    if '"' not in value:
        return value.split(",")
    import csv

    return next(csv.reader([value]))


def _invalid(value: str, reason: str) -> UsageError:
    return UsageError(f'invalid argument "{value}" for "--mount" flag: {reason}')


def _set(mount: dict[str, Any], key: str, text: str, field: str, value: str, cwd: str) -> None:
    def boolean() -> bool:
        if text not in _TRUE and text not in _FALSE:
            raise _invalid(value, f"invalid value for {key}: {text}")
        return text in _TRUE

    def options(kind: str) -> dict[str, Any]:
        found: dict[str, Any] = mount.setdefault(f"{kind}Options", {})
        return found

    if key == "type":
        mount["Type"] = text.lower()
    elif key in _SOURCE:
        mount["Source"] = os.path.join(cwd, text) if text == "." or text.startswith("./") else text
    elif key in _TARGET:
        mount["Target"] = text
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = boolean()
    elif key == "consistency":
        mount["Consistency"] = text.lower()
    elif key == "bind-propagation":
        options("Bind")["Propagation"] = text.lower()
    elif key == "bind-nonrecursive":
        options("Bind")["NonRecursive"] = boolean()
    elif key == "bind-recursive":
        _set_recursion(options("Bind"), text, value)
    elif key == "volume-nocopy":
        options("Volume")["NoCopy"] = boolean()
    elif key == "volume-label":
        name, _, label = text.partition("=")
        options("Volume").setdefault("Labels", {})[name] = label
    elif key in ("volume-driver", "volume-opt", "volume-subpath"):
        _refuse(key, text)
    elif key == "tmpfs-size":
        options("Tmpfs")["SizeBytes"] = _size(text, value)
    elif key == "tmpfs-mode":
        options("Tmpfs")["Mode"] = _mode(text, value)
    else:
        raise _invalid(value, f"unexpected key '{key}' in '{field}'")


def _set_recursion(options: dict[str, Any], text: str, value: str) -> None:
    if text not in _RECURSIONS:
        reason = f'invalid value for bind-recursive: {text} (must be "enabled", "disabled", "writable", or "readonly")'
        raise _invalid(value, reason)
    if text == "disabled":
        options["NonRecursive"] = True
    elif text == "readonly":
        options["ReadOnlyForceRecursive"] = True


def _refuse(key: str, text: str) -> None:
    if key != "volume-driver":
        raise Unsupported(
            f"{key} of --mount is not supported: {text}", "volumes have one driver, local, without options"
        )
    if text not in ("", "local"):
        raise UsageError(f'error looking up volume plugin {text}: plugin "{text}" not found')


def _size(text: str, value: str) -> int:
    number = text.rstrip("bBiIkKmMgGtTpP ")
    suffix = text[len(number) :].strip().lower().removesuffix("b").removesuffix("i")
    try:
        return int(float(number) * 1024 ** _SUFFIXES[suffix])
    except (ValueError, KeyError):
        raise _invalid(value, f"invalid value for tmpfs-size: {text}") from None


def _mode(text: str, value: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise _invalid(value, f"invalid value for tmpfs-mode: {text}") from None


def check(mount: dict[str, Any]) -> None:
    """What Docker's daemon refuses; UsageError in its words. Looks at the host for the source of a bind."""
    kind, source, target = mount["Type"], mount.get("Source", ""), mount["Target"]
    reason = ""
    if posixpath.normpath(target) in ("/", "//"):
        reason = "invalid specification: destination can't be '/'"
    elif not target.startswith("/"):
        reason = f"invalid mount path: '{target}' mount path must be absolute"
    elif kind == "bind":
        reason = _check_bind(source, mount.get("BindOptions") or {}, mount.get("ReadOnly", False))
    elif kind == "tmpfs":
        reason = "field Source must not be specified" if source else ""
    elif kind == "volume":
        reason = (
            "must not set ReadOnly mode when using anonymous volumes" if mount.get("ReadOnly") and not source else ""
        )
    else:
        reason = "mount type unknown"
    if reason:
        raise UsageError(f'invalid mount config for type "{kind}": {reason}')


def _check_bind(source: str, options: dict[str, Any], readonly: bool) -> str:
    propagation = options.get("Propagation", "")
    if propagation and propagation not in _PROPAGATIONS:
        return f"invalid propagation mode: {propagation}"
    if not source:
        return "field Source must not be empty"
    if not source.startswith("/"):
        return f"invalid mount path: '{source}' mount path must be absolute"
    if not os.path.exists(source):
        return f"bind source path does not exist: {source}"
    if options.get("ReadOnlyForceRecursive") and (not readonly or propagation not in ("", "rprivate")):
        return "option 'bind-recursive=readonly' requires 'readonly' and 'bind-propagation=rprivate'"
    return ""


def tmpfs_options(mount: dict[str, Any]) -> list[str]:
    """mount(8)'s words for a mount of type tmpfs (moby, volume/mounts/linux_parser.go, ConvertTmpfsOptions)."""
    options = mount.get("TmpfsOptions") or {}
    words = ["noexec", "nosuid", "nodev"]
    if mount.get("ReadOnly"):
        words.append("ro")
    if options.get("Mode"):
        words.append(f"mode={options['Mode']:o}")
    if options.get("SizeBytes"):
        words.append(f"size={options['SizeBytes']}")
    return words
