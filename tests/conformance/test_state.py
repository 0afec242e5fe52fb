"""runtime.md, "State": what the runtime tells about a container."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from tests.support.conformance import Container

SEMANTIC_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


@pytest.fixture
def state(container: Container) -> dict[str, Any]:
    container.spec["annotations"] = {"com.example.key": "value", "com.example.empty": ""}
    return container.started().state()


def test_it_says_which_version(state: dict[str, Any]) -> None:
    """State: "`ociVersion` (string, REQUIRED) is the version … with which the state complies"."""
    assert SEMANTIC_VERSION.fullmatch(state["ociVersion"])


def test_it_has_the_id(state: dict[str, Any], container: Container) -> None:
    """State: "`id` (string, REQUIRED) is the container's ID"."""
    assert state["id"] == container.id


def test_it_has_the_status(state: dict[str, Any]) -> None:
    """State: "`running`: the container process has executed the user-specified program but has not exited"."""
    assert state["status"] == "running"


def test_the_pid_is_the_hosts(state: dict[str, Any]) -> None:
    """State: "`pid` … is the ID of the container process", as the host sees it."""
    with open(f"/proc/{state['pid']}/status") as file:
        numbers = re.search(r"^NSpid:(.*)$", file.read(), re.MULTILINE)
    assert numbers and numbers[1].split()[-2:] == [str(state["pid"]), "1"]


def test_the_bundle_is_an_absolute_path(state: dict[str, Any], container: Container) -> None:
    """State: "`bundle` (string, REQUIRED) is the absolute path to the container's bundle directory"."""
    assert state["bundle"] == container.bundle


def test_the_bundle_is_absolute_where_it_was_given_relative(container: Container) -> None:
    """State: "`bundle` … is the absolute path"; without --bundle it is the working directory."""
    container.save()
    done = container.runtime.call("create", container.id, cwd=container.bundle)
    assert done.code == 0, done
    assert container.state()["bundle"] == container.bundle


def test_annotations_are_told(state: dict[str, Any]) -> None:
    """State: "`annotations` (map, OPTIONAL) contains the list of annotations associated with the container"."""
    assert state["annotations"].items() >= {"com.example.key": "value", "com.example.empty": ""}.items()


def test_without_annotations(container: Container) -> None:
    """State: "If no annotations were provided then this property MAY either be absent or an empty map"."""
    container.create()
    assert not container.state().get("annotations")


@pytest.mark.parametrize("name", ["ociVersion", "id", "status", "bundle"])
def test_its_strings_are_strings(state: dict[str, Any], name: str) -> None:
    """State: "When serialized in JSON, the format MUST adhere to the JSON Schema `schema/state-schema.json`"."""
    assert isinstance(state[name], str)


def test_its_pid_is_a_number(state: dict[str, Any]) -> None:
    """schema/state-schema.json: "pid": integer, minimum 0."""
    assert isinstance(state["pid"], int) and state["pid"] > 0


def test_a_created_container_has_a_pid(container: Container) -> None:
    """State: "`pid` (int, REQUIRED when `status` is `created` or `running` on Linux)"."""
    container.create()
    state = container.state()
    assert state["status"] == "created"
    assert os.path.exists(f"/proc/{state['pid']}")


def test_a_stopped_container(container: Container) -> None:
    """State: "`stopped`: the container process has exited"."""
    container.process["args"] = ["true"]
    container.create()
    container.start()
    container.wait("stopped")
    assert container.state()["id"] == container.id


def test_its_output_is_json_alone(container: Container) -> None:
    """Query State: "This operation MUST return the state of a container as specified in the State section"."""
    container.create()
    done = container.must("state")
    assert isinstance(json.loads(done.out), dict)
    assert done.err == ""
