"""`--format`: whatever is typed, the answer is a text or a UsageError."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.cli import gotypes, templates
from engine.cli.gotemplate.execute import execute
from engine.cli.gotemplate.functions import NAMES
from engine.cli.gotemplate.parser import Template
from engine.cli.gotemplate.values import numbers_as_text
from engine.cli.templates import Row
from engine.errors import UsageError
from tests.fuzz.mutation import FUZZ

CONTAINER: dict[str, Any] = {
    "Id": "abc",
    "Name": "/é\udcff",
    "State": {"Status": "running", "Pid": 7, "Running": True},
    "Config": {"Labels": {"a": "1"}, "Cmd": ["sh", "-c"], "Healthcheck": {"Interval": 5}},
    "HostConfig": {
        "NetworkMode": "bridge",
        "NanoCpus": 5,
        "PidsLimit": 3,
        "Ulimits": [{"Name": "x", "Soft": 1, "Hard": 2}],
    },
    "Mounts": [{"Type": "volume", "Destination": "/data"}],
    "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "10.0.0.1"}}},
}
STRUCT = gotypes.typed("container.InspectResponse", CONTAINER)
VALUES = (STRUCT, CONTAINER, numbers_as_text(CONTAINER), "text", 5, 1.5, None, ["a", None], {"a": {"b": [1]}})

OPERANDS = st.sampled_from(
    [".", ".Id", ".Name", ".State", ".State.Pid", ".State.Health", ".State.Health.Status", ".Config.Labels", ".Config.Labels.zz",
     ".Config.Cmd", ".HostConfig", ".HostConfig.PidsLimit", ".HostConfig.Ulimits", ".Mounts", ".NetworkSettings.Networks", ".Foo",
     ".a.b", "$", "$x", "$.Id", "nil", "true", "1", "-1", "1.5", "0x10", "1e3", "'a'", '"a"', '"%v %d"',
     '"%-5.2q|%x|%+v|%#v"', '"%[2]s%*d%"',
     "`raw`", "(index .Mounts 0)", "(.State)", "(len .Config.Cmd)", "(split `a b` ` `)", "9223372036854775808", '"\\xff"', "\ud800"]
)  # fmt: skip
FUNCTIONS = st.sampled_from([*sorted(NAMES), "foo"])
COMMANDS = st.builds(
    lambda name, words: " ".join([*name, *words]), st.lists(FUNCTIONS, max_size=1), st.lists(OPERANDS, max_size=4)
)
PIPES = st.lists(COMMANDS, min_size=1, max_size=3).map(" | ".join)
ACTIONS = st.one_of(
    PIPES.map("{{{{{}}}}}".format),
    PIPES.map("{{{{$x := {}}}}}".format),
    PIPES.map("{{{{range $i, $x := {}}}}}".format),
    PIPES.map("{{{{if {}}}}}".format),
    PIPES.map("{{{{with {}}}}}".format),
    PIPES.map("{{{{template `t` {}}}}}".format),
    st.sampled_from(
        [
            "{{else}}",
            "{{end}}",
            "{{end}}",
            "{{break}}",
            "{{continue}}",
            "{{define `t`}}",
            "{{block `b` .}}",
            "text",
            "\t",
            "\n",
            "{{- 1 -}}",
        ]
    ),
)
PIECES = st.sampled_from(
    ["{{", "}}", "{{-", "-}}", "/*", "*/", "(", ")", "|", ".", "$", ":=", "=", ",", '"', "`", "'", "\\", " ", "\n", "é",
     "\0", "1", "e", "x", "_", "if", "end", "range", "define", "table ", "json", "\ud800"]
)  # fmt: skip
TEMPLATES = st.one_of(
    st.text(max_size=30),
    st.lists(PIECES, max_size=20).map("".join),
    st.lists(ACTIONS, max_size=8).map("".join),
    ACTIONS,
)


@FUZZ
@given(TEMPLATES, st.sampled_from(VALUES), st.booleans())
def test_templates(text: str, value: Any, missing_is_error: bool) -> None:
    try:
        execute(Template(text), value, missing_is_error).encode("utf-8", "surrogatepass")
    except UsageError as e:
        assert e.message.startswith("template: ")


@FUZZ
@given(TEMPLATES)
def test_listings(text: str) -> None:
    rows = [
        Row("*kind", {"ID": "1", "Name": "é\t", "Platform": None}, {"a": "1"}),
        Row("*kind", {"ID": "2", "Name": "", "Platform": None}, {}),
    ]
    try:
        templates.rows(text, rows, {"ID": "AN ID", "Name": "NAMES", "Platform": "PLATFORM"})
    except UsageError as e:
        assert e.message.startswith("template parsing error: template: ")


@FUZZ
@given(
    st.text(alphabet="%+-# 0123456789.*[]vTtdsqxXobcUeEfFgGpz", max_size=12),
    st.lists(st.sampled_from([*VALUES, True, -7, 10**15]), max_size=4),
)
def test_printf(format: str, operands: list[Any]) -> None:
    from engine.cli.gotemplate.printing import sprintf

    assert len(sprintf(format, operands)) < 5_000_000
