"""`--mount type=…,key=value,…` as Docker reads it: first its client (cli, opts/mount.go), then its daemon (moby, volume/mounts)."""

from __future__ import annotations

import os
import posixpath

from engine.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_RECURSIONS = ("enabled", "disabled", "writable", "readonly")
_RECURSION_FIELDS = {
    "disabled": "NonRecursive",
    "writable": "ReadOnlyNonRecursive",
    "readonly": "ReadOnlyForceRecursive",
}
_IDMAP_FORMS = "match-user, or uids=DISK-SEEN-COUNT[#…];gids=DISK-SEEN-COUNT[#…]"
_SUFFIXES = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_BARE = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")
_OWN_OPTIONS = ("volume", "image", "bind", "tmpfs")
_TARGET, _SOURCE = ("target", "dst", "destination"), ("source", "src")


def parse(value: str, cwd: str) -> dict[str, Any]:
    """The mount as Docker's HostConfig.Mounts has it: Type, Source, Target, ReadOnly, BindOptions … Pure.

    `idmap` is not Docker's: BindOptions has what it says as IDMapping. Raises UsageError in Docker's words.
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
    if not kind:
        raise _invalid(value, "type is required")
    if not mount.get("Target"):
        raise _invalid(value, "target is required")
    for own in _OWN_OPTIONS:
        if f"{own.capitalize()}Options" in mount and kind != own:
            raise _invalid(value, f"cannot mix '{own}-*' options with mount type '{kind}'")
    _check_recursion(mount, value)
    return mount


def _fields(value: str) -> list[str]:
    """Comma-separated, with CSV's quotes (`"a,b"` is one, `""` in it a quote)."""
    if '"' not in value:
        return value.split(",")
    import csv

    try:
        return next(csv.reader([value], strict=True))
    except csv.Error as e:
        raise _invalid(value, f"parse error: {e}") from None


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
    elif key == "idmap":
        options("Bind")["IDMapping"] = {"Source": text} if text == "match-user" else _ranges(text, value)
    elif key == "volume-nocopy":
        options("Volume")["NoCopy"] = boolean()
    elif key == "volume-subpath":
        options("Volume")["Subpath"] = text
    elif key == "image-subpath":
        options("Image")["Subpath"] = text
    elif key == "volume-label":
        _add(options("Volume").setdefault("Labels", {}), text)
    elif key == "volume-driver":
        options("Volume").setdefault("DriverConfig", {})["Name"] = text
    elif key == "volume-opt":
        _add(options("Volume").setdefault("DriverConfig", {}).setdefault("Options", {}), text)
    elif key == "tmpfs-size":
        options("Tmpfs")["SizeBytes"] = _size(text, value)
    elif key == "tmpfs-mode":
        options("Tmpfs")["Mode"] = _mode(text, value)
    else:
        raise _invalid(value, f"unexpected key '{key}' in '{field}'")


def _add(pairs: dict[str, str], text: str) -> None:
    key, _, value = text.partition("=")
    if key:
        pairs[key] = value


def _set_recursion(options: dict[str, Any], text: str, value: str) -> None:
    if text not in _RECURSIONS:
        reason = f'invalid value for bind-recursive: {text} (must be "enabled", "disabled", "writable", or "readonly")'
        raise _invalid(value, reason)
    if text in _RECURSION_FIELDS:
        options[_RECURSION_FIELDS[text]] = True


def _check_recursion(mount: dict[str, Any], value: str) -> None:
    """What `bind-recursive` takes besides."""
    bind = mount.get("BindOptions") or {}
    for word, field in _RECURSION_FIELDS.items():
        if word != "disabled" and bind.get(field) and not mount.get("ReadOnly"):
            reason = f"option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction"
            raise _invalid(value, reason)
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        reason = "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        raise _invalid(value, reason)


def _ranges(text: str, value: str) -> dict[str, list[list[int]]]:
    """`uids=0-1000-1#…;gids=…`, each range as in Podman: id on disk, id seen, how many."""
    found: dict[str, list[list[int]]] = {}
    for part in text.split(";"):
        key, _, ranges = part.partition("=")
        name = {"uids": "UIDs", "gids": "GIDs"}.get(key)
        numbers = [item.split("-") for item in ranges.split("#")]
        valid = all(len(r) == 3 and all(n.isascii() and n.isdigit() for n in r) and int(r[2]) for r in numbers)
        if name is None or name in found or not valid:
            raise _invalid(value, f"invalid value for idmap: {text} (must be {_IDMAP_FORMS})")
        found[name] = [[int(n) for n in r] for r in numbers]
    if len(found) != 2:
        raise _invalid(value, f"invalid value for idmap: {text} (must be {_IDMAP_FORMS})")
    return found


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
        reason = _check_bind(source, mount.get("BindOptions") or {})
    elif kind == "tmpfs":
        reason = "field Source must not be specified" if source else ""
    elif kind == "volume":
        reason = _check_volume(source, mount.get("VolumeOptions") or {}, mount.get("ReadOnly", False))
    elif kind == "image":
        reason = "" if source else "field Source must not be empty"
        reason = reason or _check_subpath(mount.get("ImageOptions") or {})
    else:
        reason = "mount type unknown"
    if reason:
        raise UsageError(f'invalid mount config for type "{kind}": {reason}')


def _check_bind(source: str, options: dict[str, Any]) -> str:
    propagation = options.get("Propagation", "")
    if not source:
        return "field Source must not be empty"
    if propagation and propagation not in _PROPAGATIONS:
        return f"invalid propagation mode: {propagation}"
    if not source.startswith("/"):
        return f"invalid mount path: '{source}' mount path must be absolute"
    return "" if os.path.exists(source) else f"bind source path does not exist: {source}"


def _check_volume(source: str, options: dict[str, Any], readonly: bool) -> str:
    if readonly and not source:
        return "must not set ReadOnly mode when using anonymous volumes"
    if options.get("Subpath") and not source:
        return "must not set Subpath when using anonymous volumes"
    return _check_subpath(options)


def _check_subpath(options: dict[str, Any]) -> str:
    """Go's filepath.IsLocal: relative, and not above where it begins."""
    path = options.get("Subpath") or "."
    if path.startswith("/") or posixpath.normpath(path).split("/")[0] == "..":
        return "subpath must be a relative path within the volume"
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
