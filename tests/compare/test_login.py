"""One credentials file for both: what docker writes mini reads, and what mini writes docker reads and forgets.

Docker's client logs in by itself where no daemon answers; texts that differ between its versions are not compared.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import layers
from tests.support.registry import FakeRegistry, Handler
from tests.support.requirements import program
from tests.support.runner import Mini, Result, run_command

pytestmark = pytest.mark.requires("linux", "program:docker")
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


class Pair:
    """docker and mini with one credentials file, and a registry that lets nobody in but me."""

    def __init__(self, mini: Mini, registry: FakeRegistry, folder: Path) -> None:
        self._mini = mini
        self.address = registry.address
        self._file = folder / "config.json"
        self._environ = {**mini.environ, "DOCKER_HOST": f"unix://{folder}/nosuch"}

    def run(self, engine: str, *arguments: str, input: str | None = None) -> Result:
        command = [program("docker") or "docker"] if engine == "docker" else ["./mini"]
        return run_command([*command, *arguments], self._environ, input, check=False)

    def config(self) -> Any:
        return json.loads(self._file.read_text()) if self._file.exists() else {}

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    def guard(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == BASIC:
            return False
        handler.answer(401, b"", {"WWW-Authenticate": 'Basic realm="r"'})
        return True

    with FakeRegistry() as registry:
        registry.image("app", "1", [layers.archive(layers.file("f", b"x"))])
        registry.fault("/v2/", *[guard] * 1000)
        mini = Mini({"DOCKER_CONFIG": str(tmp_path), "MINI_CERTS_D": ""})
        yield Pair(mini, registry, tmp_path)
        mini.close()


def login(pair: Pair, engine: str, password: str = "secret") -> tuple[int, str, Any]:
    pair.forget()
    done = pair.run(engine, "login", "-u", "me", "--password-stdin", pair.address, input=password)
    return done.code, done.stdout, pair.config()


def test_a_login_is_the_same_by_either(pair: Pair) -> None:
    assert login(pair, "mini") == login(pair, "docker")
    assert pair.config()["auths"], "a test of the test: both have logged in"
    assert login(pair, "mini", "wrong") == login(pair, "docker", "wrong")


def test_mini_pulls_with_dockers_login(pair: Pair) -> None:
    login(pair, "docker")
    assert pair.run("mini", "pull", "-q", f"{pair.address}/app:1").code == 0


@pytest.mark.parametrize(("by", "out"), [("docker", "mini"), ("mini", "docker")])
def test_who_logged_in_by_one_logs_out_by_the_other(pair: Pair, by: str, out: str) -> None:
    login(pair, by)
    done = pair.run(out, "logout", pair.address)
    assert (done.code, done.out) == (0, f"Removing login credentials for {pair.address}")
    assert pair.config()["auths"] == {}


@pytest.mark.parametrize("arguments", [["-u", "me", "-p", "x", "--password-stdin"], ["--password-stdin"], ["-u", "me"]])
def test_what_neither_takes_as_a_login(pair: Pair, arguments: list[str]) -> None:
    results = [pair.run(engine, "login", *arguments, pair.address, input="") for engine in ("docker", "mini")]
    assert [r.code for r in results] == [1, 1]
    assert [r.stdout for r in results] == ["", ""]
