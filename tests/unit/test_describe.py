"""Image inspect and history of configs as they come: tests/compare has what Docker shows of the usual ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.context import Context
from engine.images import describe
from engine.images.load import load
from engine.paths import Paths
from engine.storage.images import Image
from tests.support.archives import LAYER, UPPER, config_of, docker_files, tar


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(Paths(str(tmp_path / "root")), {}, "erofs")


def put(ctx: Context, tmp_path: Path, **members: Any) -> Image:
    config = config_of(LAYER, UPPER, **members)
    (tmp_path / "x.tar").write_bytes(tar(docker_files(LAYER, UPPER, config=config)))
    (loaded,) = load(ctx, str(tmp_path / "x.tar"))
    return loaded.image


def test_steps_with_and_without_layers(ctx: Context, tmp_path: Path) -> None:
    history = [
        {"created": "2024-01-02T03:04:05Z", "created_by": "ADD base"},
        {"created_by": "ENV A=1", "empty_layer": True, "comment": "no layer"},
        {"created_by": "COPY upper"},
    ]
    image = put(ctx, tmp_path, history=history)
    steps = describe.history(ctx, image)
    assert [(s["Id"], s["CreatedBy"], s["Size"], s["Comment"]) for s in steps] == [
        (image.id, "COPY upper", len(UPPER), ""),
        ("<missing>", "ENV A=1", 0, "no layer"),
        ("<missing>", "ADD base", len(LAYER), ""),
    ]
    assert [s["Created"] for s in steps] == ["", "", "2024-01-02T03:04:05Z"]
    assert [s["Tags"] for s in steps] == [["alpine:3.20"], None, None]


@pytest.mark.parametrize("history", [None, [], 5, "x", {"a": 1}, [1, None], [{"created_by": 7}], [{}] * 9])
def test_a_history_that_does_not_fit_the_layers(ctx: Context, tmp_path: Path, history: Any) -> None:
    """It is optional, and nothing checks it: then each layer is one line."""
    image = put(ctx, tmp_path, history=history)
    assert [s["Size"] for s in describe.history(ctx, image)] == [len(UPPER), len(LAYER)]
    assert describe.inspect(ctx, image)["Comment"] == ""


def test_what_an_image_says_of_itself(ctx: Context, tmp_path: Path) -> None:
    config = {"Env": ["A=1"], "StopSignal": "SIGQUIT", "unknown": 1, "ExposedPorts": {"80/tcp": {}}}
    image = put(
        ctx, tmp_path, config=config, author="me", variant="v8", created="2024-01-02T03:04:05.6Z", docker_version="1.2",
        history=[{}, {"comment": "last"}], **{"os.version": "10"},
    )  # fmt: skip
    shown = describe.inspect(ctx, image)
    assert (shown["Author"], shown["Variant"], shown["OsVersion"], shown["DockerVersion"]) == ("me", "v8", "10", "1.2")
    assert (shown["Comment"], shown["Created"]) == ("last", "2024-01-02T03:04:05.6Z")
    assert shown["RepoTags"] == ["alpine:3.20"]
    assert shown["RootFS"] == {"Type": "layers", "Layers": image.diff_ids}
    assert shown["Config"]["StopSignal"] == "SIGQUIT"
    assert shown["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert "unknown" not in shown["Config"] and "Healthcheck" not in shown["Config"]
    assert shown["Config"]["Cmd"] is None and shown["Config"]["Tty"] is False
