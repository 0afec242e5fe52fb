"""config.json: whatever is in it, it is taken or refused by name; and what is taken becomes limits, or is refused by them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import MiniError, UsageError
from engine.runtime import labels, validate
from engine.runtime.cgroups import limits, units
from engine.runtime.cgroups.devices import DeviceList, answers
from engine.runtime.cgroups.v1 import devices as v1_devices
from engine.runtime.cgroups.v2 import devices as v2_devices
from engine.runtime.oci_cli import bundle
from tests.fuzz.mutation import FUZZ
from tests.unit.test_validate_whole import PLACES, WHOLE

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.sampled_from([1 << n for n in (12, 20, 31, 32, 53, 62, 63, 64, 70)]),
    st.sampled_from([-(1 << n) for n in (31, 63, 64)]),
    st.floats(),
    st.text("/0-9,abrwmx:* =\0é.", max_size=8),
    st.sampled_from(["0-", "9-1", "max", "0-99999999999", "2MB", "1GB", "\ud800", "/", "..", "memory.high", "cpu.max"]),
    st.just([]),
    st.just({}),
)
ANY = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed(draw: st.DrawFn, below: str = "") -> dict[str, Any]:
    """The whole of config.json with some values others, gone, or twice."""
    spec: dict[str, Any] = json.loads(json.dumps(WHOLE))
    for _ in range(draw(st.integers(1, 3))):
        steps, _name = draw(st.sampled_from([place for place in PLACES if place[1].startswith(below)]))
        place: Any = spec
        try:
            for step in steps[:-1]:
                place = place[step]
            value = place[steps[-1]]
        except (KeyError, IndexError, TypeError):
            continue
        if draw(st.integers(0, 4)) == 0:
            del place[steps[-1]]
        elif isinstance(place, list) and draw(st.booleans()):
            place.append(json.loads(json.dumps(value)))
        else:
            place[steps[-1]] = draw(ANY)
    return spec


@pytest.fixture(autouse=True, scope="module")
def modules() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "require_apparmor", lambda where: None)
        patch.setattr(labels, "require_selinux", lambda where: None)
        yield


@FUZZ
@given(changed() | ANY)
def test_a_document(spec: Any) -> None:
    try:
        bundle.check(spec)
        validate.checked(spec)
    except MiniError as e:
        assert e.message and len(e.message) < 1000


@FUZZ
@given(changed("linux.resources"))
def test_resources(spec: dict[str, Any]) -> None:
    try:
        spec, _ = validate.checked(spec)  # type: ignore[assignment]
    except MiniError:
        return
    resources = spec.get("linux", {}).get("resources", {})
    for controller in limits.wanted(resources):
        for on_v1 in (True, False):
            name = "io" if controller == "blkio" and not on_v1 else controller
            if not on_v1 and name in ("net_cls", "net_prio"):
                continue
            try:
                plan = limits.settings(name, on_v1, resources, lambda _: None)
            except MiniError:
                continue
            assert all(isinstance(value, str) and "/" not in file for file, value in plan)
    for on_v2 in (True, False):
        try:
            for _name, kind, value in units.limits(resources, on_v2) + units.unified(resources):
                packed(kind, value)
        except MiniError:
            pass
    rules = resources.get("devices", [])
    v2_devices.program(answers(rules))
    try:
        v1_devices.settings(DeviceList.from_rules(rules))
    except MiniError:
        pass


def packed(kind: str, value: Any) -> None:
    from engine.runtime.cgroups import dbus

    dbus.marshal(kind, [value], bytearray())


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 200_000,
        b'{"ociVersion": "1.2.0", "process": ' * 50_000,
        b'{"process": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"a": ' + b"9" * 10_000 + b"}",
        b"\xff\xfe{}",
        b"",
    ],
    ids=range(6),
)
def test_what_is_hardly_json(data: bytes, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(UsageError):
        bundle.Bundle(str(tmp_path))
