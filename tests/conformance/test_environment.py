"""config.md, "Process": `env`, and HOME, which runtimes add."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.conformance import PATH, PROBE, Container


def test_env_is_the_environment(container: Container) -> None:
    """Process: "`env` (array of strings, OPTIONAL) with the same semantics as … environ"."""
    container.process["env"] = [PATH, "ONE=1", "EMPTY=", "SPACE=a b", "EQUALS=a=b", "LINE=a\nb"]
    found = container.report()["env"]
    assert {*container.process["env"]} <= {*found}
    assert {entry.partition("=")[0] for entry in found} <= {"PATH", "ONE", "EMPTY", "SPACE", "EQUALS", "LINE", "HOME"}


def test_env_has_nothing_of_the_runtimes(container: Container) -> None:
    """The same: only what is listed; HOME, of the user's, is what runc and crun add."""
    container.process["args"] = [PROBE]
    done = container.attempt("run", env=os.environ | {"SECRET": "of the caller's", "LISTEN_PID": "1"})
    assert not [entry for entry in json.loads(done.out)["env"] if not entry.startswith(("PATH=", "HOME="))]


@pytest.mark.parametrize("name", [PATH, "no"])
def test_home_is_the_users(container: Container, name: str) -> None:
    """Where env has no HOME, it is that of /etc/passwd; where it has, it stays."""
    container.process["env"] = [PATH] if name == PATH else [PATH, "HOME=/no"]
    container.process["user"] = {"uid": 1000, "gid": 1000}
    assert ("HOME=/home/user" if name == PATH else "HOME=/no") in container.report()["env"]


@pytest.mark.differs(crun="leaves it empty")
@pytest.mark.parametrize("given", [["HOME="], ["HOME=/no", "HOME="]], ids=str)
def test_an_empty_home_is_none(container: Container, given: list[str]) -> None:
    """What Docker's links and images rely on since LXC did so."""
    container.process["env"] = [PATH, *given]
    found = [entry for entry in container.report()["env"] if entry.startswith("HOME=")]
    assert found == ["HOME=/root"]


@pytest.mark.differs(crun="sets none, then")
def test_home_of_a_user_that_nobody_knows(container: Container) -> None:
    container.process["user"] = {"uid": 101010, "gid": 101010}
    assert "HOME=/" in container.report()["env"]


def test_the_last_of_a_name_counts(container: Container) -> None:
    """environ(7) has one of a name; which one getenv(3) finds of two is nobody's business."""
    container.process["env"] = [PATH, "ONE=two", "ONE=three"]
    assert container.sh("echo $ONE") == "three\n"


def test_a_name_is_there_once(container: Container) -> None:
    container.process["env"] = [PATH, "ONE=two", "ONE="]
    assert [entry for entry in container.report()["env"] if entry.startswith("ONE")] == ["ONE="]


@pytest.mark.parametrize("entry", ["NAME", "=value", ""])
def test_an_entry_that_is_none(container: Container, entry: str) -> None:
    """Each is "name=value": another one is an error, or is passed as it is, and never breaks the others."""
    container.process["env"] = [entry, PATH, "ONE=1"]
    container.process["args"] = [PROBE]
    done = container.attempt("run")
    assert done.code != 0 or "ONE=1" in json.loads(done.out)["env"]


def test_a_zero_byte(container: Container) -> None:
    """It would end the entry: refused, or ended."""
    container.process["env"] = [PATH, "ONE=1\0TWO=2"]
    container.process["args"] = [PROBE]
    done = container.attempt("run")
    assert done.code != 0 or not [entry for entry in json.loads(done.out)["env"] if entry.startswith("TWO")]
