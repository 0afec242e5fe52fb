"""Published ports through both engines: what they say of them, and the words of what is refused.

Both claim the same ports of the same host, so one is done and cleaned up before the other begins. Ports that the engine chose
itself are told as RANDOM. Not here, since they differ on purpose: sctp, which mini refuses to publish; `--expose 80/foo`, which
Docker 20.10 takes for a port.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compare.conftest import Both

pytestmark = [pytest.mark.requires("linux", "root", "netns", "docker"), pytest.mark.timeout(600)]

EXPOSING = ["-c", "EXPOSE 80 443/udp 9000-9002", "-c", 'CMD ["sleep","6000"]']

# each form is run; then inspect, ps and port tell of it
FORMS = [
    "-p 80", "-p :80", "-p 8080:80", "-p 127.0.0.1:8080:80/tcp", "-p 127.0.0.1::80", "-p 8080:80/udp", "-p 0.0.0.0:8080:80",
    "-p [::1]:8081:80", "-p ::1:8081:80", "-p [::]:8081:80", "-p 8000-8010:80", "-p 8000-8002:80-82", "-p 80-82", "-p 0:80",
    "-p 8080:80/TCP", "-p 8080:80 -p 8081:81", "-p 8080:80 -p 8080:80/udp", "-p 8000-8002:8000-8002", "-p 8002:8002 -p 8000:8000",
    "-p 127.0.0.1:9000-9002:9000-9002 -p 7000:7000/udp -p 80:80 -p 443:443/udp", "--expose 80", "--expose 80/udp --expose 90-92",
    "-P --expose 80", "-P", "-P -p 8080:80 --expose 81", "-p 8080:80 --expose 81", "-p published=8080,target=80",
    "-p published=8080,target=80,protocol=udp,mode=host", "-p target=80", "--network host -p 8080:80",
    "--network none -p 8080:80", "--network host -P --expose 80", "--network inner -p 8080:80", "--network user -p 8080:80",
    "--network local -p 8080:80", "-p 192.0.2.77:8080:80", "-p 8080:80 -p 8080:81", "-p 8080:80 -p 8080:80",
    "-p 7777:80", "-p 7777-7778:80", "-p 7777-7777:80",
    # refused
    "-p 8000-8001:80-82", "-p 8080:80/foo", "-p 80:80:80:80", "-p 8080:", "-p abc", "-p 70000:80", "-p 80:70000", "-p 127.0.0.1:",
    "-p 1.2.3:80:80", "-p localhost:80:80", "-p 9-8:80", "-p 80-79", "--expose abc", "--expose 80:81", "--expose 70000",
    "--expose 9-8", "-p foo=80", "-p published=abc,target=80", "-p published=80", "-p published=80,target", "-p -1:80",
    "-p 80:80-", "-p 80/tcp/udp", "--expose /udp", "--network container:holder -p 8080:80",
    "--network container:holder --expose 80", "--network container:holder -P",
]  # fmt: skip

# one after the other; `holder` has port 7777
ROWS = [
    "port holder", "port holder 80", "port holder 80/tcp", "port holder 80/udp", "port holder 81", "port holder abc",
    "port holder 80/foo", "port nosuch", "port holder 80-81", "port holder 0", "port holder 70000", "port holder 80 81", "port",
    "ps --filter publish=7777 --format {{.Names}}", "ps --filter publish=80 --format {{.Names}}",
    "ps --filter expose=80 --format {{.Names}}", "ps --filter publish=7000-8000/tcp --format {{.Names}}",
    "ps --filter publish=7777/udp --format {{.Names}}", "ps --filter publish=x",
    "run -d --name plain exposing", "ps --format {{.Names}}@{{.Ports}}", "port plain", "port plain 80",
    "inspect -f {{json@.NetworkSettings.Ports}} plain", "run -d --name all -P exposing", "ps --filter name=all --format {{.Ports}}",
    "inspect -f {{json@.NetworkSettings.Ports}} all", "port all", "port all 443/udp",
    "run -d --name wanting -p 7777:81 {image} sleep 6000", "ps -a --filter name=wanting --format {{.Status}}@{{.Ports}}",
    "inspect -f {{.State.Status}}@{{.State.ExitCode}}@{{.State.Error}} wanting", "start wanting",
    "pause holder", "port holder", "ps --filter name=holder --format {{.Ports}}", "unpause holder", "stop -t 0 holder",
    "port holder", "port holder 80", "inspect -f {{json@.NetworkSettings.Ports}} holder",
    "ps -a --filter name=holder --format {{.Ports}}", "start wanting", "port wanting", "start holder", "rm -f wanting",
    "start holder", "port holder", "network connect user holder", "port holder", "network disconnect bridge holder",
    "port holder", "inspect -f {{json@.NetworkSettings.Ports}} holder", "network disconnect user holder",
    "inspect -f {{json@.HostConfig.PortBindings}} holder",
    "create --name later -p 8080:80 {image} true", "port later", "port later 80",
    "inspect -f {{json@.NetworkSettings.Ports}} later",
    "create --name hosted -p 8080:80 --network host {image} sleep 6000", "start hosted", "port hosted",
    "inspect -f {{.HostConfig.PublishAllPorts}}@{{json@.HostConfig.PortBindings}} hosted",
]  # fmt: skip

PREPARED = [
    "network create --internal inner", "network create user",
    "network create -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 local",
    "run -d --name holder -p 7777:80 {image} sleep 6000",
]  # fmt: skip


def _words(row: str, image: str) -> list[str]:
    return [word.replace("@", " ").replace("{image}", image) for word in row.split(" ")]


def _run(engine: Any, *words: str) -> dict[str, Any]:
    result = engine.run(*words, check=False)
    said = next((line for line in result.stderr.split("\n") if line), "")
    said = re.sub(r"^(docker: |mini: |Error: |Error response from daemon: )+", "", said).replace(
        "docker port", "mini port"
    )
    # of a container that was made but did not start, Docker's client has printed the ID
    stdout = "" if result.code else result.stdout
    return {"code": result.code, "stdout": _plain(stdout), "said": _plain(said)}


def _plain(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{64}\b", "ID", text)
    # a port of the range that the kernel, or Docker, chooses from
    return re.sub(r"\b(3276[89]|327[7-9]\d|32[89]\d\d|3[3-9]\d{3}|[4-6]\d{4})\b", "RANDOM", text)


def _form(engine: Any, image: str, form: str) -> list[dict[str, Any]]:
    told = [_run(engine, "run", "-d", "--name", "xx", *form.split(), image, "sleep", "6000")]
    if engine.run("inspect", "xx", check=False).code == 0:
        fields = "{{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}} {{json .NetworkSettings.Ports}}"
        told.append(_run(engine, "inspect", "-f", fields, "xx"))
        told.append(_run(engine, "ps", "-a", "--filter", "name=xx", "--format", "{{.Ports}}"))
        told.append(_run(engine, "port", "xx"))
        engine.run("rm", "-f", "xx")
    return told


def _all(engine: Any, image: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        engine.run("commit", *EXPOSING, engine.run("create", image, "true").out, "exposing")
        for row in PREPARED:
            engine.run(*_words(row, image))
        for form in FORMS:
            found[form] = _form(engine, image, form)
        for number, row in enumerate(ROWS):
            found[f"{number} {row}"] = _run(engine, *_words(row, image))
    finally:
        engine.remove_containers()
        engine.remove_networks()
        engine.run("rmi", "-f", "exposing", check=False)
    return found


@pytest.fixture(scope="module")
def told(engines: Both) -> Iterator[dict[str, dict[str, Any]]]:
    image = engines.names["host"]
    yield {name: _all(engine, image) for name, engine in (("docker", engines.docker), ("mini", engines.mini))}


@pytest.mark.parametrize("row", [*FORMS, *(f"{number} {row}" for number, row in enumerate(ROWS))])
def test_same(told: dict[str, dict[str, Any]], row: str) -> None:
    assert told["mini"][row] == told["docker"][row]
