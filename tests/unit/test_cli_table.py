"""The table that command lines are parsed from says what the Typer application says, option by option."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer

from engine.cli import derive, parse, table
from engine.cli.app import app

# Command lines that both parsers understand: Click has no `--rm=false` and no `-e=A=b`, which test_cli_parse has instead.
CORPUS = [
    "run -d --wait --init --restart on-failure:3 --health-cmd true --health-interval 1s --health-retries 2 x",
    "run --health-timeout 1m30s --health-start-period 5s --health-start-interval 100ms --health-on-failure kill x",
    "run --no-healthcheck x",
    "run alpine",
    "run alpine sh -c ls",
    "run -it --rm alpine sh",
    "run -ti --rm alpine",
    "run -d --name web -e A=b -e C= --env D --env=E=f -eG=h alpine sleep 100",
    "run -dit -w /srv -u 1000:1000 -h box --hostname=other alpine id -u -n",
    "run -v data:/data -v /a:/b:ro --volume=c:/c --tmpfs /run:size=1m alpine",
    "run -m 512m --memory-swap -1 --memory-reservation 256m --cpus 1.5 -c 512 --cpuset-cpus 0,1 --pids-limit 10 alpine",
    "run --net none --network=host --dns 1.1.1.1 --dns-search x.org --dns-option ndots:1 --add-host a:10.0.0.1 alpine",
    "run --entrypoint= alpine",
    "run --entrypoint sh alpine -c true",
    "run --cap-add NET_ADMIN --cap-drop=ALL --security-opt no-new-privileges --privileged --read-only alpine",
    "run --ulimit nofile=10:20 --sysctl net.ipv4.ip_forward=1 --group-add wheel --shm-size 1g --oom-kill-disable alpine",
    "run --oom-score-adj -500 --stop-signal INT --stop-timeout 3 --cidfile /x -l a=b --label c --label-file f alpine",
    "run --pull always -q --platform linux/arm64 --env-file f --env-file g --domainname d alpine",
    "run --annotation d=e -a stdout --attach STDERR --detach-keys ctrl-x alpine",
    "run --mount type=tmpfs,dst=/x --volumes-from a:ro --device /dev/fuse --device-cgroup-rule c --gpus all alpine",
    "run --pid host --ipc=shareable --uts host --userns host --cgroupns private --storage-opt size=1g alpine",
    "run --log-driver none --log-opt max-size=1m --cpu-period 1000 --cpu-quota 2000 --cpuset-mems 0 alpine",
    "run --blkio-weight 500 --memory-swappiness 5 --kernel-memory 8m alpine",
    "run --device-read-bps /dev/sda:1mb --device-write-bps=/dev/sda:2m --blkio-weight-device /dev/sda:300 alpine",
    "run --device-read-iops /dev/sda:100 --device-read-iops /dev/sdb:1 --device-write-iops /dev/sda:200 alpine",
    "run --cpu-rt-period 1000000 --cpu-rt-runtime 950000 --isolation default --runtime mini --volume-driver local alpine",
    "run --cgroup-parent /a/b alpine",
    "run -p 80 --publish 8080:80/udp -P --expose 81 --publish-all alpine",
    "update --cpu-period 50000 --cpu-quota 25000 --cpuset-mems 0 --blkio-weight 300 --kernel-memory 8m a",
    "update --publish-add 8080:80 --publish-rm 80 a",
    "run -- alpine --rm",
    "run -i -- alpine -- sh",
    "run alpine -- sh",
    "run alpine --rm -it",
    "create --name x alpine",
    "container run --rm alpine true",
    "exec c ls -l",
    "exec -it -u root -w / -e A=b --privileged c sh -c 'exit 3'",
    "exec -d --env-file f c sleep --help",
    "exec -it --detach-keys ctrl-x,y c sh",
    "ps",
    "ps -aq --no-trunc",
    "ps -n 3 --format json",
    "ps -as -f status=exited --filter name=a",
    "ps --last=2 -l",
    "container ls -a",
    "container list",
    "start a b",
    "start -ai --detach-keys ctrl-x a",
    "stop -s INT -t 3 a b",
    "stop --time=0 a",
    "stop a -t 3",
    "kill -s USR1 a",
    "rm -fv a b c",
    "rm -l a/b --link c/d",
    "rm a -f b",
    "logs -f --tail 10 -t --since 10m a",
    "logs -n 5 --details a",
    "logs --until 2026-01-02T03:04:05Z a",
    "attach a",
    "container attach --detach-keys a,b --no-stdin --sig-proxy a",
    "pause a b",
    "unpause a b",
    "restart -t 1 -s INT a b",
    "container restart --time=3 a",
    "rename a b",
    "top a",
    "top a -eo pid,args",
    "stats",
    "stats -a --no-stream --no-trunc --format json a b",
    "port a",
    "port a 80/tcp",
    "update -m 50m --memory-swap 100m --memory-reservation 20m --cpus 0.5 -c 512 --cpuset-cpus 0 --pids-limit 9 a b",
    "update --restart always a",
    "events",
    "system events -f type=container --filter event=die --since 1h --until 1m --format json",
    "inspect -s a",
    "container inspect --size a",
    "wait a b",
    "images",
    "images -a alpine --digests --no-trunc -q -f dangling=true --filter label=a",
    "image ls --format {{.ID}}",
    "pull -q alpine:3.20",
    "image pull --platform=linux/arm64 alpine",
    "pull -a alpine",
    "push -q alpine:3.20",
    "image push -a alpine",
    "search -f stars=3 --filter is-official=true --limit 5 --no-trunc --format json alpine",
    "manifest inspect -v alpine",
    "registry serve --root /x --host 0.0.0.0 --port 0 -v",
    "rmi -f --no-prune a b",
    "image rm a",
    "save -o x.tar a b",
    "image save --output=x.tar a",
    "load -q -i x.tar --platform linux/arm64",
    "image load --input x.tar",
    "import - a:b -c USER=b --change=USER=a -m text --platform linux/arm64",
    "image import x.tar",
    "export -o x.tar c",
    "container export --output=x.tar c",
    "cp -aLq c:/a b",
    "container cp --archive --follow-link --quiet - c:/a",
    "diff c",
    "container diff c",
    "commit -a me -m text -c USER=b --change=USER=a -p c a:b",
    "container commit --author me --message text --pause c",
    "history -q --no-trunc --format json a",
    "image history a",
    "tag a b",
    "inspect --format {{.Id}} --type container a b",
    "image inspect -f json a",
    "container inspect --format json a",
    "volume create",
    "volume create -d other --label a=b --opt type=tmpfs -o device=tmpfs v",
    "volume export -o file v",
    "volume export v",
    "volume import v -",
    "volume ls -q --format json -f dangling=true",
    "volume inspect --format json v",
    "volume rm -f v w",
    "run --network name=a,alias=x,ip=10.0.0.5 --network b --network-alias y --net-alias z --ip 10.0.0.4 --ip6 fd00::4 alpine",
    "run --mac-address 02:42:0a:00:00:05 --link web:w --link db alpine",
    "network create -d macvlan --driver=x --subnet 10.9.0.0/16 --subnet fd00::/64 --gateway 10.9.0.1 --ip-range 10.9.1.0/24 n",
    "network create --aux-address a=10.9.0.9 --internal --ipv6 --attachable --label k=v --ipam-driver x n",
    "network create --ipam-opt a=b -o com.docker.network.bridge.name=br9 --opt com.docker.network.driver.mtu=1400 n",
    "network connect --ip 10.9.0.7 --ip6 fd00::7 --alias x --link a:b --driver-opt k=v --gw-priority 5 n web",
    "network disconnect -f n web",
    "network disconnect --force n web",
    "network ls --no-trunc -q --format json -f driver=bridge --filter name=n",
    "network inspect -f json -v bridge",
    "network inspect --verbose bridge",
    "network rm -f a b",
    "network remove --force a",
    "network prune -f --filter until=1h --filter label=k",
    "network prune --force",
    "network reload",
    "version -f json",
    "info --format json",
    "system info",
    "system df -v --format json",
    "system prune -af --volumes --filter label=a",
    "container prune -f --filter until=1h --filter label!=b",
    "volume prune -a --filter label=a=b -f",
    "image prune -af --filter dangling=false --keep-storage 10g --unused-for 720h",
    "fsck -q --repair",
    "system fsck",
    "login -u me -p secret --password-stdin r.test:5000",
    "login",
    "logout r.test",
    "demo",
    "completion bash",
    "__complete -- run --rm a",
    "--root /x ps",
    "--root=/x --debug --storage-driver directory images -q",
    "-D version",
]


def test_table_is_up_to_date() -> None:
    with open(table.__file__) as file:
        assert file.read() == derive.table(), "run: python -m engine.cli.derive"


def typer_parse(words: list[str]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(path, global options, values) as Typer's own parser reads the words."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("mini", list(words))
    rest = [*getattr(context, "_protected_args", ()), *context.args]
    global_options = dict(context.params)
    command, path = group, []
    while hasattr(command, "commands"):
        path.append(rest[0])
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.make_context(" ".join(path), rest, parent=context)
    canonical = command.callback.facts.aliases[0]
    return canonical, global_options, {k: list(v) if isinstance(v, tuple) else v for k, v in context.params.items()}


@pytest.mark.parametrize("line", CORPUS)
def test_both_parsers_agree(line: str) -> None:
    words = shlex.split(line)
    path, global_options, raw = typer_parse(words)
    parsed = parse.parse(words)
    assert parsed.path == path
    assert parsed.values == parse.convert(path, raw)
    assert parsed.globals == {k: global_options[k] for k in parsed.globals}


@pytest.mark.parametrize(
    "words, code, out",
    [(["volume", "create", "vol"], 0, "vol\n"), (["rmi", "nosuch"], 1, ""), (["stop", "-t", "x", "c"], 125, "")],
)
def test_the_application_runs_by_itself(
    words: list[str], code: int, out: str, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """Typer's own parser, callback and all, without the table."""
    with pytest.raises(SystemExit) as ended:
        app(["--root", str(tmp_path), *words], prog_name="mini")
    assert (ended.value.code, capsys.readouterr().out) == (code, out)


def test_every_option_is_in_the_corpus() -> None:
    """An option that no line of the corpus sets would be compared by nobody."""
    seen: set[tuple[str, str]] = set()
    for line in CORPUS:
        parsed = parse.parse(line.split())
        for options, path in ((parsed.values, parsed.path), (parsed.globals, "")):
            for name, _, many, default, _ in table.COMMANDS[path][4]:
                if str(options[name]) != str([] if many else default):
                    seen.add((path, name))
    missing = [
        f"{path} {option[0]}"
        for path, entry in table.COMMANDS.items()
        for option in entry[4]
        if (path, option[0]) not in seen
        and path != "create"
        and option[0] not in ("sig_proxy", "pause", "version", "human")
    ]
    assert not missing
