"""One table of `--format` templates, each run through both engines on the same objects: exit code, output and error.

web    runs; labels a=1 and b, a named volume, memory limit
made   was never started; label a=2
"""

from __future__ import annotations

import difflib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compare.conftest import Both
from tests.support.runner import Result

pytestmark = pytest.mark.requires("linux", "root", "netns", "docker")

LANGUAGE = [
    # texts, trimming, comments
    "plain",
    "{{/* c */}}a",
    "a {{- /* c */ -}} b",
    "{{- .Name -}}  x",
    " {{.Name}} ",
    r"{{.Name}}\t\n",
    "a\n{{.Name}}\n",
    # literals
    r'{{1}} {{1.5}} {{true}} {{`raw\n`}} {{"a\tb\x41\u00e9\101"}} {{0x10}} {{0777}} {{1_000}} {{0b11}} {{-1}} {{.5}} {{0x1p4}}',
    r"{{'a'}} {{'\n'}} {{'\''}} {{'é'}}",
    "{{1e5}} {{1e6}} {{123456.0}} {{1234567.0}} {{1e20}} {{1e21}} {{1.5e-5}} {{0.0}}",
    "{{nil}}",
    "{{08}}",
    "{{1a}}",
    "{{1.2.3}}",
    "{{'ab'}}",
    "{{''}}",
    "{{9223372036854775807}}",
    "{{9223372036854775808}}",
    '{{"\\q"}}',
    '{{"unterminated}}',
    "{{`unterminated}}",
    # fields, chains, variables
    "{{.Foo}}",
    "{{.name}}",
    "{{.State.Foo}}",
    "{{.State.Status.x}}",
    "{{.Foo.Bar}}",
    "{{.Name.x}}",
    "{{.Mounts.Type}}",
    "{{.State.Status}} {{.State.Running}} {{.State.Health}} {{.HostConfig.Memory}}",
    "{{.HostConfig.NanoCpus}} {{.HostConfig.NanoCPUs}}",
    '{{.Config.Labels.a}} {{.Config.Labels.zz}} {{index .Config.Labels "a"}} {{index .Config.Labels "zz"}}|',
    "{{.Config.Labels.zz.y}} {{.Config.Labels.a.b}}",
    "{{(index .Mounts 0).Name}}",
    "{{(.State).Status}} {{(.Name)}}",
    "{{.State.Health.Status}}",
    "{{.Config.Healthcheck.Test}}",
    "{{.HostConfig.MemorySwappiness.x}}",
    "{{.Config.Volumes}}",
    "{{.Config.Cmd}} {{.Config.Env}} {{.HostConfig.Binds}} {{.HostConfig.RestartPolicy}} {{.ExecIDs}}",
    "{{.SizeRw}} {{.RestartCount}}",
    "{{$x := .Name}}{{$x}}{{$x = `b`}}{{$x}}",
    "{{$y}}",
    "{{$.Name}}{{with .State}}{{$.Name}}{{.Status}}{{end}}",
    "{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}",
    # control
    "{{if .State.Running}}y{{else if .State.Paused}}p{{else}}n{{end}}",
    "{{with .Config.Volumes}}y{{else}}n{{end}}",
    "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
    "{{range $i, $v := .Config.Cmd}}{{$i}}={{$v}};{{end}}",
    "{{range .Config.Env}}{{continue}}x{{end}}{{range .Config.Cmd}}{{.}}{{break}}{{end}}",
    "{{range .Config.Volumes}}x{{else}}none{{end}}",
    "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{.IPPrefixLen}}{{end}}",
    "{{range 3}}{{.}}{{end}}",
    "{{range .Name}}x{{end}}",
    '{{define "x"}}[{{.}}]{{end}}{{template "x" .Name}}',
    '{{block "y" .Name}}<{{.}}>{{end}}',
    '{{template "x"}}',
    "{{break}}",
    '{{define "x"}}a{{end}}{{define "x"}}b{{end}}',
    '{{define "x"}}{{.Foo}}{{end}}{{template "x" .State}}',
    # functions
    '{{and 1 0}} {{or 0 "x"}} {{not .State.Running}} {{1 | and 0}}',
    "{{and}}",
    '{{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{le "a" "b"}} {{gt 2.5 1.5}} {{ge 1 1}}',
    "{{eq 1 1.0}}",
    '{{eq "a" 1}}',
    "{{lt true false}}",
    "{{eq .Config.Cmd .Config.Cmd}}",
    "{{eq}}",
    '{{eq .State.Status "running"}}',
    "{{len .Config.Cmd}} {{len .Name}} {{len `é`}}",
    "{{len 1}}",
    "{{len nil}}",
    "{{index .Config.Cmd 1}}",
    "{{index .Config.Cmd 2}}",
    "{{index .Config.Cmd 9}}",
    '{{index .Config.Cmd "x"}}',
    "{{index .Config.Labels 1}}",
    "{{index nil 1}}",
    "{{slice .Name 1}}",
    "{{slice `abc` 2 1}}",
    '{{print 1 2 "a" "b" 3 4}}',
    "{{println `a` 1}}",
    '{{html "<a>"}} {{js "it\'s"}} {{urlquery "a b&c"}}',
    "{{call .Name}}",
    "{{add 1 2}}",
    '{{printf "%5d|%-5d|%05d|%x|%#x|%o|%b|%c|%q|%U" 42 42 42 255 255 8 5 65 65 65}}',
    '{{printf "%s|%10s|%-10s|%.2s|%q|%x" "abc" "abc" "abc" "abc" "a" "abc"}}',
    '{{printf "%v %g %e %f %.2f %08.3f|%+d|% d|%t" 1e6 1e6 1e6 1.5 1.5 1.5 3 4 true}}',
    '{{printf "%d" "x"}} {{printf "%d"}} {{printf "a" 1}} {{printf "%z" 1}} {{printf "%"}}',
    '{{printf "%[2]s %[1]s" "a" "b"}} {{printf "%*d" 5 3}}',
    '{{printf "%T %T %T %T %T" .State .Mounts .Config.Labels .Config.Cmd .HostConfig.Memory}}',
    '{{printf "%s %d %q %v" .Config.Labels .Config.Cmd .Config.Cmd nil}}',
    '{{printf "%s" .HostConfig.NanoCpus}}',
    "{{json .State.Health}} {{json .Config.Cmd}} {{json .HostConfig.RestartPolicy}} {{json `<é>`}} {{json 1.5}} {{json nil}}",
    "{{json .Config.Labels}}",
    "{{json}}",
    "{{json 1 2}}",
    "{{.Name | upper}} {{lower `ABC`}} {{title `hello world`}}",
    "{{pad `x` 2 3}}|{{truncate `hello` 3}}",
    "{{truncate `abc` -1}}",
    '{{split .Name "/"}} {{join .Config.Cmd "-"}} {{join (split "a b" " ") "+"}}',
    "{{upper 1}}",
    "{{upper .State.Pid}}",
    "{{upper .HostConfig.RestartPolicy.Name}}",
    "{{join .Name `,`}}",
    "{{.Name | json | len}}",
    "{{.Name .Id}}",
    '{{"a" "b"}}',
    "{{(1) 2}}",
    # what is no template
    "{{",
    "{{.",
    "{{}}",
    "{{foo}}",
    "{{.Name}",
    "{{if .Name}}",
    "{{end}}",
    "{{else}}",
    "{{if}}{{end}}",
    "{{range}}{{end}}",
    "{{.Name)}}",
    "{{(.Name}}",
    "{{.Name..x}}",
    "{{1 | 2}}",
    "{{ | .Name}}",
    "{{if .Name}}a{{else}}b{{else}}c{{end}}",
    "{{/* a",
    "{{/* a */ }}",
    "{{true.x}}",
    "{{$x, $y := .Name}}",
    "{{range $i, 1 := .Config.Env}}{{end}}",
    "{{define x}}{{end}}",
    "{{template x}}",
    '{{define "x"}}',
    "{{1-1}}",
    "{{#}}",
    "{{:}}",
    "{{table .Name}}",
    "{{if true}}\n\n{{foo}}",
    "{{\n.Name",
    "a\n{{.Name}}\n  {{.Foo}}",
    "é{{.Foo}}",
]

# `{}` is the image's name, `{repository}` without its tag.
LISTINGS = [
    *[
        ["ps", "-a", "--format", t]
        for t in (
            "{{.Names}} {{.Image}} {{.State}} {{.Labels}} {{.Networks}} {{.LocalVolumes}} {{.Mounts}} {{.Command}} {{.Ports}}|",
            "{{.Foo}}",
            "{{",
            "{{foo}}",
            r"{{.Names}}\t{{.State}}",
            r"table {{.Names}}\t{{.Image}}",
            "table {{.Names}} {{.Image}}",
            r'table {{.Label "a"}}\t{{.Names}}',
            '{{.Label "a"}}|{{.Label "zz"}}',
            "{{.Label}}",
            "{{.Label 1}}",
            r"table {{json .Names}}\t{{upper .Names}}",
            "table {{.Foo}}",
            "{{.Platform}}",
            "{{json .Names}}",
            "{{json .Label}}",
            '{{if eq .State "running"}}{{.Names}}{{end}}',
            "{{range .Names}}x{{end}}",
            "table{{.State}}",
            r"table\t{{.Names}}",
            "table {{.Names}}\n{{.State}}",
            "  table {{.Names}} ",
            "table {{if .Names}}{{.Names}}{{else}}x{{end}}",
            'table {{range $i,$x := split .Names "e"}}{{$x}}{{end}}',
            "table {{slice .Names 0 2}}",
            "{{.Names.x}}",
            r'table {{printf "%s" .Names}}\t{{.State}}\t{{"lit"}}',
            r"table {{.Names | upper}}\t{{truncate .Image 5}}",
            "table {{len .Names}}",
            "table {{pad .Names 1 1}}|",
            r"{{.Names}}\n",
            r'table {{.Names}}\t{{if eq .State "running"}}up\tx{{end}}',
            r"table a\tb{{.Names}}\nlonglonglonglong\tc\td\n{{.Image}}",
            r"table {{.Names}}\t\t{{.State}}\t",
            'table {{.Label "com.foo.my-label_x"}}',
            "{{template `x`}}",
            '{{printf "%T" .}}',
            "pretty",
            "JSON",
            r"table {{.Mounts}}\t{{.Networks}}\t{{.LocalVolumes}}\t{{.Command}}\t{{.State}}\t{{.Platform}}",
        )
    ],
    ["ps", "-q", "--format", "{{.Names}}", "-f", "name=nosuch"],
    ["ps", "--format", r"table {{.Names}}\t{{.Foo}}", "-f", "name=nosuch"],
    *[
        ["ps", "-a", "--format", "{{.Names}}", "-f", f"isolation={value}"]
        for value in ("", "default", "process", "hyperv", "bogus")
    ],
    *[
        ["images", "--format", t, "{repository}"]
        for t in (
            "{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedSince}} {{.Containers}}",
            "{{.Digest}}",
            "{{.Foo}}",
            '{{.Label "x"}}',
            r"table {{.ID}}\t{{.Tag}}\t{{.UniqueSize}}\t{{.SharedSize}}",
            "table {{.Digest}}",
        )
    ],
    ["images", "--format", "table {{.Foo}}|{{.ID}}", "nosuch"],
    ["images", "-q", "--format", "{{.Tag}}", "{}"],
    *[
        [
            "images",
            *(word for text in filters.split() for word in ("--filter", text)),
            "--format",
            "{{.Repository}}:{{.Tag}}",
        ]
        for filters in (
            "reference={repository}",
            "reference=*/*/host",
            "reference=*/*/host:l*",
            "reference=nosuch",
            "reference=*",
            "reference=nosuch reference={repository}",
            "label=made.by reference={repository}",
            "label=nosuch",
            "label=made.by=nosuch",
            "dangling=true",
            "dangling=false reference={repository}",
            "nosuch=1",
            "before={} reference={repository}",
            "since={} reference={repository}",
            "before=nosuch",
            "since=nosuch",
        )
    ],
    ["images", "--digests", "--format", "table {{.ID}}", "{repository}"],
    *[
        ["volume", "ls", "--format", t]
        for t in (
            "{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}}|{{.Links}}|{{.Size}}|{{.Status}}",
            "{{.Foo}}",
            '{{.Label "x"}}|',
            r'table {{.Name}}\t{{.Label "x"}}',
            "raw",
        )
    ],
    ["volume", "ls", "-q", "--format", "{{.Driver}}"],
    *[
        ["network", "ls", "--format", t]
        for t in (
            "{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}} {{.Labels}}",
            "{{.Foo}}",
            '{{.Label "x"}}|',
            r"table {{.Name}}\t{{.Driver}}\t{{.IPv6}}",
        )
    ],
    *[
        ["history", "--format", t, "{}"]
        for t in (
            "{{.ID}}|{{.CreatedBy}}|{{.CreatedAt}}|{{.Comment}}",
            "{{.Foo}}",
            r"table {{.Comment}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.CreatedSince}}",
            "raw",
        )
    ],
    *[
        ["stats", "--no-stream", "--format", t]
        for t in ("{{.Name}}", "{{.Foo}}", "table {{.Name}}", "{{", "table {{.Foo}}")
    ],
    *[["system", "df", "--format", t] for t in ("{{", "{{foo}}", "{{.Foo}}")],
    *[
        ["system", "df", "-v", "--format", t]
        for t in (
            "{{range .Containers}}{{.Names}} {{end}}",
            "{{range .BuildCache}}x{{else}}none{{end}}",
            "{{.Foo}}",
            "{{foo}}",
            "{{range .Images}}{{.ID}} {{end}}",
        )
    ],
    *[
        ["version", "--format", t]
        for t in (
            "{{",
            "{{.Foo}}",
            "{{.Server.Foo}}",
            "{{.Server.Os}} {{.Client.Arch}} {{.Client.Context}} {{.Server.Experimental}}",
            "{{.Server.KernelVersion}}",
        )
    ],
    *[
        ["info", "--format", t]
        for t in (
            "{{",
            "{{.Foo}}",
            "{{.Swarm.Foo}}",
            "{{.OSType}}/{{.Architecture}} {{.NCPU}} {{.MemTotal}} {{.Name}} {{.Swarm.LocalNodeState}}",
            "{{.Isolation}}|{{.LoggingDriver}}|{{.CgroupDriver}}|{{.ServerErrors}}",
            "{{.CgroupVersion}}|{{.OperatingSystem}}|{{json .SecurityOptions}}|{{.Plugins.Volume}}",
            "{{range .DriverStatus}}{{if eq (index . 0) `Backing Filesystem`}}{{len .}}{{end}}{{end}}",
            "{{(index .Runtimes .DefaultRuntime).Foo}}",
        )
    ],
    *[
        ["events", "--since", "{since}", "--until", "0s", "-f", "container=made", "--format", t]
        for t in (
            "{{.Type}} {{.Action}} {{.Status}} {{.ID}} {{.From}} {{.Scope}}",
            "{{.Foo}}",
            "{{",
            "{{.Actor.Foo}}",
            "{{.Time.x}}",
            r"{{.Actor.Attributes.name}}\t{{.Actor.Attributes.nosuch}}",
            "{{.Actor}}",
        )
    ],
    *[
        ["image", "inspect", "-f", t, "{}"]
        for t in (
            "{{.Id}} {{.ID}}",
            "{{.Foo}}",
            "{{.Config.Cmd}} {{.Os}}/{{.Architecture}} {{.Config.Labels}}",
            "{{.RootFS}}",
            "{{.Config.Entrypoint}} {{json .Config.Entrypoint}}",
        )
    ],
    *[
        ["volume", "inspect", "-f", t, "data"]
        for t in ("{{.Name}} {{.Driver}} {{.Scope}} {{.UsageData}} {{.Status}}", "{{.Foo}}", "{{.Labels.x}}")
    ],
    *[
        ["network", "inspect", "-f", t, "bridge"]
        for t in (
            "{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.EnableIPv6}}",
            "{{.Foo}}",
            "{{.Id}} {{.ID}}",
            "{{range .Containers}}{{.Name}} {{end}}",
            "{{.Containers.x.Name}}|",
            "{{len .IPAM.Config}}",
        )
    ],
    ["inspect", "-f", "{{.Name}}", "web", "nosuch", "made"],
    ["inspect", "-f", "{{.Foo}}", "web", "made"],
    ["inspect", "-f", "{{.Foo}}", "nosuch"],
    ["inspect", "-f", "{{", "nosuch"],
    ["inspect", "--type", "volume", "-f", "{{.Name}}", "data"],
    ["inspect", "--type", "network", "-f", "{{.Name}}", "bridge"],
    ["inspect", "-f", "{{.Driver}}", "data"],
    ["inspect", "-f", "{{if .State}}{{.Foo}}{{end}}", "web"],
    ["inspect", "-f", "{{.State.Pid}}{{len .State.Pid}}", "made"],
]

# `--format json` and `{{json .}}`: the same keys in the same order.
KEYS = [
    "ps -a --format json",
    "ps -a --format {{json .}}",
    "images --format json {}",
    "volume ls --format json",
    "network ls --format json",
    "history --format json {}",
    "stats --no-stream --format json",
    "system df --format json",
    "inspect -f {{json .State}} web",
    "inspect -f {{json .Mounts}} web",
    "events --since {since} --until 0s -f container=made --format json",
    "events --since {since} --until 0s -f container=made --format {{json .}}",
]


def plain(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{64}\b", "<ID>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)
    return re.sub(r"^((mini|docker): )?(Error response from daemon: |Error: )?", "", text, flags=re.M)


def told(result: Result) -> dict[str, Any]:
    """Without the hints of ours, which are indented."""
    errors = [line for line in result.stderr.splitlines() if not line.startswith("  ")]
    return {"code": result.code, "stdout": plain(result.stdout), "stderr": plain("\n".join(errors))}


# Events from then on: a container of that name may have been made by a test before, and Docker forgets sooner than mini.
BEGUN: dict[str, str] = {}


@pytest.fixture(scope="module")
def fleet(engines: Both) -> Iterator[Both]:
    image = engines.names["host"]
    BEGUN["{since}"] = f"{time.time():.9f}"
    for engine in (engines.docker, engines.mini):
        options = ["--label", "a=1", "--label", "b", "-v", "data:/data", "-m", "64m", "--memory-swap", "64m"]
        engine.run("run", "-d", "--name", "web", *options, image, "sleep", "6000")
        engine.run("create", "--name", "made", "--label", "a=2", image, "true")
    time.sleep(1.1)  # `events --until 0s` is until the beginning of this second
    yield engines
    for engine in (engines.docker, engines.mini):
        engine.run("rm", "-f", "-v", "web", "made")
        engine.run("volume", "rm", "-f", "data")


def same(docker: Any, mini: Any) -> None:
    theirs, ours = (json.dumps(value, indent=1, ensure_ascii=False).splitlines() for value in (docker, mini))
    difference = list(difflib.unified_diff(theirs, ours, "docker", "mini", n=1, lineterm=""))
    assert not difference, "\n".join(difference)


@pytest.mark.parametrize("template", LANGUAGE)
def test_language(fleet: Both, template: str) -> None:
    same(*(told(engine.run("inspect", "-f", template, "web", check=False)) for engine in (fleet.docker, fleet.mini)))


@pytest.mark.parametrize("command", LISTINGS, ids=" ".join)
def test_listing(fleet: Both, command: list[str]) -> None:
    image = fleet.names["host"]
    names = {"{}": image, "{repository}": image.rpartition(":")[0]} | BEGUN
    words = [names.get(word, word) for word in command]
    same(*(told(engine.run(*words, check=False)) for engine in (fleet.docker, fleet.mini)))


@pytest.mark.parametrize("line", KEYS)
def test_keys(fleet: Both, line: str) -> None:
    words = line.replace("{{json ", "{{json\0").split(" ")
    names = {"{}": fleet.names["host"]} | BEGUN
    words = [names.get(word, word.replace("\0", " ")) for word in words]
    found = []
    for engine in (fleet.docker, fleet.mini):
        first = json.loads(engine.run(*words).lines[0])
        found.append([list(item) for item in first] if isinstance(first, list) else list(first))
    same(*found)


@pytest.mark.parametrize("options", [["--details"], ["--details", "--tail", "1"]], ids=" ".join)
def test_details_of_logs(both: Both, options: list[str]) -> None:
    given = [
        "--label",
        "zed=a b",
        "--label",
        "one=é,=&",
        "-e",
        "FOO=x/y",
        "--log-opt",
        "labels=zed,one",
        "--log-opt",
        "env=FOO",
    ]
    found = []
    for engine in (both.docker, both.mini):
        image = both.names["host"]
        engine.run("run", "--name", "it", *given, image, "sh", "-c", "echo out; printf 'no end'")
        engine.run("run", "--name", "plain", image, "echo", "x")
        found.append([told(engine.run("logs", *options, name)) for name in ("it", "plain")])
    same(*found)
