"""What an image is and how it came about, in Docker's fields: `image inspect` and `history`."""

from __future__ import annotations

from engine.images.reference import Reference
from engine.storage.drivers import choose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.context import Context
    from engine.storage.images import Image

# What Docker shows of a config, also where the image does not say it (moby, api/types/container, Config): in this order.
_CONFIG: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "ExposedPorts": None,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Healthcheck": None,
    "ArgsEscaped": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
    "StopSignal": None,
    "StopTimeout": None,
    "Shell": None,
}
_LEFT_OUT_IF_EMPTY = ("ExposedPorts", "Healthcheck", "ArgsEscaped", "StopSignal", "StopTimeout", "Shell")
_NEVER = "0001-01-01T00:00:00Z"


def inspect(ctx: Context, image: Image) -> dict[str, Any]:
    """Docker's ImageInspect object (API 1.41, which the 20.10 engine serves)."""
    config = image.config
    return {
        "Id": image.id,
        "RepoTags": [Reference.parse(t).familiar() for t in image.tags],
        "RepoDigests": [Reference.parse(d).familiar() for d in image.repo_digests],
        "Parent": "",
        "Comment": _text(config, "comment") or _last_comment(config),
        "Created": image.created or _NEVER,
        "Container": _text(config, "container"),
        "ContainerConfig": _container_config(config.get("container_config")),
        "DockerVersion": _text(config, "docker_version"),
        "Author": _text(config, "author"),
        "Config": _container_config(config.get("config")),
        "Architecture": _text(config, "architecture"),
        **({"Variant": config["variant"]} if config.get("variant") else {}),
        "Os": _text(config, "os"),
        **({"OsVersion": config["os.version"]} if config.get("os.version") else {}),
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Data": None, "Name": choose(ctx.paths, ctx.storage_driver).name},
        "RootFS": {"Type": "layers", **({"Layers": image.diff_ids} if image.diff_ids else {})},
        "Metadata": {"LastTagTime": _NEVER},
    }


def history(ctx: Context, image: Image) -> list[dict[str, Any]]:
    """Docker's history objects, the newest step first; `Size` is of the layer's tar, `Created` RFC 3339 as it stands.

    A config whose history does not have as many layers as its rootfs (history is optional) is shown one line a layer.
    """
    driver = choose(ctx.paths, ctx.storage_driver)
    steps = _steps(image.config)
    if sum(not s.get("empty_layer") for s in steps) != len(image.diff_ids):
        steps = [{} for _ in image.diff_ids]
    layers = iter(image.diff_ids)
    found: list[dict[str, Any]] = [
        {
            "Id": "<missing>",
            "Created": _text(step, "created"),
            "CreatedBy": _text(step, "created_by"),
            "Tags": None,
            "Size": 0 if step.get("empty_layer") else driver.layer_size(next(layers)),
            "Comment": _text(step, "comment"),
        }
        for step in steps
    ]
    if found:
        found[-1] |= {"Id": image.id, "Tags": [Reference.parse(t).familiar() for t in image.tags] or None}
    return found[::-1]


def _container_config(value: Any) -> dict[str, Any]:
    given = value if isinstance(value, dict) else {}
    shown = _CONFIG | {key: given[key] for key in _CONFIG if given.get(key) is not None}
    return {key: item for key, item in shown.items() if item or key not in _LEFT_OUT_IF_EMPTY}


def _last_comment(config: dict[str, Any]) -> str:
    """Docker's builders write no comment of their own; the last step may have one (moby, daemon/images/image_inspect.go)."""
    steps = _steps(config)
    return _text(steps[-1], "comment") if steps else ""


def _steps(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The config's history as far as it is one: nothing else depends on it, so it may be anything."""
    history = config.get("history")
    return [step for step in history if isinstance(step, dict)] if isinstance(history, list) else []


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""
