"""One table of command lines that are wrong or ask for help: exit code, and the first lines on stdout and stderr, in both engines.

A row is a command line. `{image}` is an image that both have, `{dir}` the working directory, which has the files `taken` (a
cidfile of before) and `bad` (a file of variables that is none).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compare.conftest import Both
from tests.compare.test_commands import Engine, _same, first_error, plain

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker")

SAME = """
    strat
    nosuch
    container nosuch
    container strat
    volume nosuch
    help nosuch
    --nosuch
    --nosuch ps
    -z
    run --nosuch {image}
    run -z {image}
    run -itz {image}
    ps --al
    ps -z
    ps --all=maybe
    container ls --nosuch
    volume ls --nosuch
    image rm --nosuch x

    start
    stop
    restart
    kill
    rm
    pause
    unpause
    wait
    attach
    logs
    logs a b
    top
    exec
    exec it
    create
    run
    run --rm
    rename it
    rename a b c
    port
    port a b c
    update
    diff
    diff a b
    commit
    commit a b c
    cp
    cp a
    cp a b c
    export
    export a b
    inspect
    container inspect
    tag
    tag a
    tag a b c
    pull
    pull a b
    push
    push a b
    rmi
    history
    history a b
    save
    load x
    search
    search a b
    images a b
    ps x
    info x
    version x
    events x
    login a b
    logout a b
    volume create a b
    volume inspect
    volume ls x
    volume rm
    volume prune x
    network ls x
    network inspect
    image inspect
    image prune x
    container prune x
    system df x
    system prune x
    container start
    container ls x

    container
    image
    volume
    network
    system
    manifest
    --help
    help
    help run
    help volume
    help volume ls
    help container start
    run --help
    start --help
    ps --help
    exec --help
    cp --help
    images --help
    image ls --help
    volume ls --help
    container --help
    volume create --help
    system prune --help
    -v
    --version
    version --help

    run --memory
    run -e
    run --name
    stop -t
    ps --filter
    run --memory 5x {image} true
    run --memory -1 {image} true
    run --memory= {image} true
    run --memory 1k {image} true
    run --memory 1.5.5m {image} true
    run --memory-swap x {image} true
    run --memory-swap 10m {image} true
    run --memory 10m --memory-swap 6m {image} true
    run --memory-reservation x {image} true
    run --memory 10m --memory-reservation 20m {image} true
    run --memory-swappiness 101 {image} true
    run --memory-swappiness x {image} true
    run --shm-size x {image} true
    run --shm-size -1 {image} true
    run --shm-size 0 {image} true
    run --cpus abc {image} true
    run --cpus -1 {image} true
    run --cpus 1.0000000001 {image} true
    run --cpus 99 {image} true
    run --cpu-shares x {image} true
    run --cpu-period x {image} true
    run --cpu-period 1 {image} true
    run --cpu-quota 1 {image} true
    run --cpus 1 --cpu-quota 10000 {image} true
    run --cpus 1 --cpu-period 10000 {image} true
    run --cpuset-cpus 99 {image} true
    run --cpuset-cpus x {image} true
    run --cpuset-mems 99 {image} true
    run --blkio-weight x {image} true
    run --blkio-weight 70000 {image} true
    run --isolation nosuch {image} true
    run --isolation process {image} true
    run --isolation DEFAULT {image} true
    run --runtime '' {image} true
    run --volume-driver local -v vol:/x {image} true
    run --cpu-rt-runtime x {image} true
    run --cpu-rt-period 1000 --cpu-rt-runtime 2000 {image} true
    run --blkio-weight-device x {image} true
    run --blkio-weight-device :100 {image} true
    run --blkio-weight-device /opt:100 {image} true
    run --blkio-weight-device /dev/loop0:5 {image} true
    run --blkio-weight-device /dev/loop0:x {image} true
    run --device-read-bps x {image} true
    run --device-read-bps /opt:1mb {image} true
    run --device-read-bps /dev/loop0:x {image} true
    run --device-write-bps /dev/loop0:-1 {image} true
    run --device-write-bps /dev/loop0: {image} true
    run --device-read-iops '' {image} true
    run --device-read-iops /dev/loop0:1k {image} true
    run --device-write-iops /dev/loop0:+1 {image} true
    run --device-write-iops /dev/loop0:18446744073709551616 {image} true
    run --pids-limit x {image} true
    run --oom-score-adj 2000 {image} true
    run --oom-score-adj x {image} true
    run --ulimit nofile {image} true
    run --ulimit nosuch=1 {image} true
    run --ulimit nofile=x {image} true
    run --ulimit nofile=20:10 {image} true
    run --ulimit nofile=1:2:3 {image} true
    run --ulimit =5 {image} true
    run --restart nosuch {image} true
    run --restart on-failure:x {image} true
    run --restart on-failure:-1 {image} true
    run --restart always:3 {image} true
    run --restart no:3 {image} true
    run --restart on-failure:3:3 {image} true
    run --restart :3 {image} true
    run --restart always --rm {image} true
    run --stop-timeout x {image} true
    run --stop-timeout 1.5 {image} true
    run --stop-signal NOSUCH {image} true
    run --health-interval 1 {image} true
    run --health-interval x {image} true
    run --health-cmd true --health-interval -1s {image} true
    run --health-cmd true --health-interval 1us {image} true
    run --health-cmd true --health-timeout -1s {image} true
    run --health-cmd true --health-timeout 1us {image} true
    run --health-cmd true --health-start-period -1s {image} true
    run --health-retries x {image} true
    run --health-cmd true --health-retries -1 {image} true
    run --no-healthcheck --health-cmd true {image} true
    run --no-healthcheck --health-interval 1s {image} true
    run --log-driver nosuch {image} true
    run --log-opt max-size=x {image} true
    run --log-opt max-size {image} true
    run --log-opt max-file=x {image} true
    run --log-opt max-file=0 --log-opt max-size=1m {image} true
    run --log-opt max-file=-1 {image} true
    run --log-opt nosuch=1 {image} true
    run --log-opt max-file=3 {image} true
    run --log-driver none --log-opt max-size=1m {image} true
    run --tmpfs x {image} true
    run --tmpfs / {image} true
    run --tmpfs /x:nosuch {image} true
    run --tmpfs '' {image} true
    run --tmpfs /x:exec,size=1m {image} true
    run --device /dev/null:/dev/x:q {image} true
    run --device /dev/null:x {image} true
    run --device '' {image} true
    run --device null {image} true
    run --device a:b:c:d {image} true
    run --device-cgroup-rule x {image} true
    run --env-file {dir}/nosuch {image} true
    run --env-file {dir}/bad {image} true
    run --env-file {dir} {image} true
    run --label-file {dir}/nosuch {image} true
    run --label-file {dir}/bad {image} true
    run --label-file {dir} {image} true
    create --label-file '' {image}
    run -e =x {image} true
    run -e '' {image} true
    run --label =x {image} true
    run --label '' {image} true
    run --cidfile {dir}/taken {image} true
    run --name ! {image} true
    run --name '' {image} true
    run --name a/b {image} true
    run --name x {image} true
    run --hostname -x {image} true
    run --workdir x {image} true
    run --user nosuch {image} true
    run --user 0:nosuch {image} true
    run --user 4294967296 {image} true
    run --user : {image} true
    run --add-host x {image} true
    run --add-host x:y {image} true
    run --dns x {image} true
    run --network nosuch {image} true
    run --network container:nosuch {image} true
    run --network container: {image} true
    run --network host --hostname x {image} true
    run --network none --dns 1.1.1.1 {image} true
    run --pid nosuch {image} true
    run --pid container:nosuch {image} true
    run --pid container: {image} true
    run --ipc nosuch {image} true
    run --uts nosuch {image} true
    run --userns nosuch {image} true
    run --cgroupns nosuch {image} true
    run --cap-add NOSUCH {image} true
    run --cap-drop NOSUCH {image} true
    run --security-opt nosuch {image} true
    run --security-opt seccomp=/nosuch {image} true
    run --sysctl x {image} true
    run --sysctl kernel.nosuch=1 {image} true
    run --attach nosuch {image} true
    run -d --rm --restart always {image} true
    run --pull nosuch {image} true
    run --pull never nosuch true
    run --platform nosuch {image} true
    run --mount x {image} true
    run --mount type=bind {image} true
    run --mount type=bind,src=/nosuch,dst=/x {image} true
    run --mount type=nosuch,dst=/x {image} true
    run --mount type=volume,dst=x {image} true
    run -v '' {image} true
    run -v a:/b:nosuch {image} true
    run -v !:/b {image} true
    run -v /:/ {image} true
    run --volumes-from nosuch {image} true
    run --volumes-from x:nosuch {image} true
    run {image} /nosuch
    run {image} nosuch
    run --entrypoint nosuch {image}
    run ''
    run INVALID
    run {image}:
    run a@b
    create INVALID
    create --pull never nosuch

    start nosuch
    stop nosuch
    stop nosuch nosuch2
    stop -t x it
    stop -t -5 nosuch
    stop -s NOSUCH nosuch
    kill -s NOSUCH nosuch
    rm nosuch
    rm -f nosuch
    start ''
    logs nosuch
    exec nosuch true
    exec -w x nosuch true
    exec -e '' nosuch true
    exec -e =x nosuch true
    exec --env-file {dir}/nosuch nosuch true
    exec '' true
    stop ''
    logs ''
    wait nosuch
    rename nosuch x
    port nosuch
    port nosuch x
    update nosuch
    update --memory 5x nosuch
    diff nosuch
    commit nosuch
    commit nosuch INVALID
    cp nosuch:/x y
    cp x y
    cp a:/x b:/y
    cp {dir}/nosuch nosuch:/x
    export nosuch
    inspect nosuch
    inspect -f {{.Nosuch}} nosuch
    container inspect nosuch
    volume inspect nosuch
    network inspect nosuch
    tag nosuch x
    tag {image} INVALID
    tag {image} a@sha256:0
    rmi nosuch
    rmi -f nosuch
    history nosuch
    load -i {dir}/nosuch
    import {dir}/nosuch
    import {dir}/bad INVALID
    pull INVALID
    pull ''
    push nosuch
    push INVALID
    images INVALID
    volume create !
    volume create --driver nosuch x
    volume rm nosuch
    volume rm ''
    volume rm -f ''
    network rm ''
    network inspect ''
    network connect '' x
    volume inspect ''
    inspect ''
    container inspect ''
    volume rm -f nosuch
    ps --last x
    ps --filter nosuch
    ps --filter nosuch=1
    events --filter nosuch
    login -p x
    login --password-stdin
    login -u x -p y --password-stdin
    system prune -f --filter nosuch=1
    volume prune -f --filter nosuch=1
    image prune -f --filter until=x
"""

# What mini says otherwise on purpose, and why.
OTHERWISE = {
    "nosuch --help": "an unknown command is an error, also where help is asked for",
    "import": "the most arguments are said, too: Docker ignores what is more",
    "import a b c": "the same",
    "manifest inspect": "one argument is all that it takes",
    "run --blkio-weight 5 {image} true": "the range is checked also where the kernel has no weight",
    "run --runtime nosuch {image} true": "Docker's words since 23: the daemon that is compared is older",
    "run --volume-driver nosuch -v vol:/x {image} true": "Docker takes the missing plugin for a missing image, and pulls it",
    "run --cpu-rt-runtime 1000 {image} true": "names the file",
    "run --device-read-bps /dev/nosuch:1mb {image} true": "125: Docker takes any 'no such file' for a missing program",
    "run --device-read-bps /dev/null:1mb {image} true": "says what is wrong with it",
    "run --ulimit nofile=-2 {image} true": "names the limit",
    "create --restart nosuch {image} true": "a wrong value is 125 in create, whoever would find it: there is no daemon",
    "create --stop-signal 0 {image} true": "the same",
    "create --stop-signal NOSUCH {image} true": "the same",
    "create --cap-add NOSUCH {image} true": "the same",
    "create --cidfile {dir}/taken {image} true": "the same",
    "create --stop-signal 99 {image} true": "there is no such signal: Docker takes every number",
    "run --log-opt max-size=-1 {image} true": "no limit, as Docker's documentation has it",
    "run --tmpfs /x:size=x {image} true": "the kernel's own reason",
    "run --device /dev/nosuch {image} true": "125: Docker takes any 'no such file' for a missing program",
    "run --sysctl net.ipv4.nosuch=1 {image} true": "the same",
    "run --cidfile {dir}/nosuch/file {image} true": "the same",
    "run --group-add nosuch {image} true": "lower case, as for users",
    "run --ipc container: {image} true": "said before anything is made",
    "run --security-opt nosuch=1 {image} true": "Docker's number 2 means nothing to a user",
    "run --security-opt no-new-privileges=x {image} true": "the same",
    "run --annotation x {image} true": "the daemon that is compared is older than the option",
    "run -d -a stdout {image} true": "what run refuses is 125",
    "run --detach-keys nosuch {image} true": "said before anything is made",
    "run -v : {image} true": "nothing is mounted anywhere in Docker, silently",
    "run -v a:b {image} true": "the same",
    "run -v a:/b:ro:rw {image} true": "says what is wrong with it",
    "run {image} /etc": "the reason",
    "run {image} ''": "the reason",
    "kill nosuch": "says it once",
    "inspect --type image nosuch": "says it once",
    "image inspect nosuch": "says it once",
    "rm ''": "one message for every command",
    "rm -f ''": "the same",
    "rmi ''": "Docker's asks for the page that lists all images",
    "logs --tail x nosuch": "a wrong value is said before the container is looked for",
    "update --restart nosuch nosuch": "the same",
    "export -o {dir}/nosuch/x nosuch": "names the file and the directory",
    "save -o {dir}/nosuch/x nosuch": "the same",
    "save nosuch": "names the tag that was looked for",
    "inspect --type nosuch nosuch": "the types that mini has",
    "load -i {dir}/bad": "the place in the archive",
    "search --limit 0 x": "nobody asks for no result: Docker takes 0 for the default",
    "search --limit 101 x": "lower case",
    "search --filter nosuch=1 x": "lower case",
}


@pytest.fixture(scope="module")
def usage(engines: Both, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Both, Path]]:
    directory = tmp_path_factory.mktemp("usage")
    (directory / "taken").write_text("")
    (directory / "bad").write_text("two words=1\n")
    yield engines, directory
    for engine in (engines.docker, engines.mini):
        engine.remove_containers()
        engine.remove_volumes()


# What stands around runc's own words in those of Docker's.
_AROUND = r"failed to create shim .* unable to start container process: |: unknown$"


def _told(engine: Engine, line: str, image: str, directory: Path) -> dict[str, object]:
    words = [w.replace("{image}", image).replace("{dir}", str(directory)) for w in shlex.split(line)]
    result = engine.run(*words, check=False, cwd=str(directory))
    first = result.stdout.partition("\n")[0]
    first = re.sub(r"(?i)\b(mini|docker) version .*", "<engine> version", first)
    return {
        "code": result.code,
        "stdout": plain(re.sub(r"\b(mini|docker)\b", "<engine>", first)),
        "stderr": re.sub(_AROUND, "", first_error(result.stderr)),
    }


def _both(usage: tuple[Both, Path], line: str) -> list[dict[str, object]]:
    engines, directory = usage
    return [_told(engine, line, engines.names["host"], directory) for engine in (engines.docker, engines.mini)]


@pytest.mark.parametrize("line", [line.strip() for line in SAME.splitlines() if line.strip()])
def test_says_the_same(usage: tuple[Both, Path], line: str) -> None:
    _same(*_both(usage, line))


@pytest.mark.parametrize("line, reason", OTHERWISE.items(), ids=OTHERWISE)
def test_says_otherwise(usage: tuple[Both, Path], line: str, reason: str) -> None:
    """A line that is the same by now belongs into the other table."""
    docker, mini = _both(usage, line)
    assert docker != mini, reason
