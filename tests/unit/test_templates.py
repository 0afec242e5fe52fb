"""Go's template language and its printing; tests/compare/test_formats.py asks Docker the same."""

from __future__ import annotations

from typing import Any

import pytest

from engine.cli import formats, gotypes, templates
from engine.cli.gotemplate import execute as execution
from engine.cli.gotemplate import jsontext, printing, values
from engine.cli.gotemplate.parser import Template
from engine.cli.templates import Row
from engine.errors import UsageError

ITEM: dict[str, Any] = {
    "Name": "n",
    "On": True,
    "Null": None,
    "List": ["a", "b"],
    "Map": {"k": "v", "deep": {"x": 1}},
    "Number": 7,
}


def made(text: str, value: Any = ITEM, **options: Any) -> str:
    return execution.execute(Template(text), value, **options)


@pytest.mark.parametrize(
    "template, text",
    [
        ("plain", "plain"),
        ("{{.Name}}-{{ .On }}", "n-true"),
        ("a  {{- .Name -}}  b {{- /* c */ -}} d", "anbd"),
        ("{{.Map.deep.x}} {{.Number}}", "1 7"),
        ("{{.List}} {{.Map}}", "[a b] map[deep:map[x:1] k:v]"),
        ("{{.nothing}} {{.nothing.deeper}} {{.Null}}", "<no value> <no value> <no value>"),
        ("{{$x := .Name}}{{$x}}{{$x = 2}}{{$x}}", "n2"),
        ("{{$x := 1}}{{range .List}}{{$x = .}}{{end}}{{$x}}", "b"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{range $i, $x := .List}}{{$i}}{{$x}}{{end}}", "0a1b"),
        ("{{range $k, $v := .Map}}{{$k}} {{end}}", "deep k "),
        ("{{range .List}}{{if eq . `a`}}{{continue}}{{end}}{{.}}{{break}}{{end}}", "b"),
        ("{{range .nothing}}x{{else}}none{{end}}", "none"),
        ("{{with .Map.deep}}{{.x}}{{$.Name}}{{else}}no{{end}}", "1n"),
        ("{{with .nothing}}x{{else with .Name}}{{.}}{{end}}", "n"),
        ('{{define "x"}}<{{.}}>{{end}}{{template "x" .Name}}{{block "y" 1}}[{{.}}]{{end}}', "<n>[1]"),
        ('{{(index .List 1)}} {{index .Map "deep" "x"}} {{(.Map).k}}', "b 1 v"),
        ('{{.Name | printf "%s-%s" "a" | upper | len}}', "3"),
        ("{{and 1 0 2}} {{or 0 `` 3}} {{not 0}} {{and 1 2}}", "0 3 true 2"),
        ("{{eq 1 3 1}} {{ne `a` `b`}} {{lt 1.5 2.5}} {{ge 2 2}}", "true true true true"),
        ("{{json .Map}} {{json `<>&`}}", '{"deep":{"x":1},"k":"v"} "<>&"'),
        ('{{split "a,b" ","}} {{join (split "a b" " ") "+"}} {{title "foo-bar baz_q"}}', "[a b] a+b Foo-Bar Baz_q"),
        ("{{pad `a` 1 2}}|{{pad `` 1 1}}|{{truncate `abc` 2}}|{{truncate `abc` 9}}", " a  ||ab|abc"),
        ("{{html `<a>`}} {{js `it's`}} {{urlquery `a b&`}}", "&lt;a&gt; it\\'s a+b%26"),
        ("{{slice `abcd` 1 3}} {{len `é`}} {{slice .List 1}}", "bc 2 [b]"),
        ("{{range 3}}{{.}}{{end}}", "012"),
    ],
)
def test_language(template: str, text: str) -> None:
    assert made(template) == text


@pytest.mark.parametrize(
    "template, message",
    [
        ("{{", "template: :1: unclosed action"),
        ("a\n\n{{foo}}", 'template: :3: function "foo" not defined'),
        ("{{.Name}", "template: :1: bad character U+007D '}'"),
        ("{{if .Name}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        ("{{1 | 2}}", "template: :1: non executable command in pipeline stage 2"),
        ("{{(.Name}}", "template: :1: unclosed left paren"),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        ("{{1i}}", 'template: :1: bad number syntax: "1i"'),
        ("{{if 1}}{{else}}{{else}}{{end}}", "template: :1: expected end; found {{else}}"),
        ("{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "template: :1: nested too deeply"),
    ],
)
def test_what_is_no_template(template: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Template(template)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "template, message",
    [
        ("é\né {{index .List 9}}", '2:5: executing "" at <index .List 9>: error calling index: index out of range: 9'),
        ("{{.Name.x}}", '1:7: executing "" at <.Name.x>: can\'t evaluate field x in type interface {}'),
        ("{{range .Name}}{{end}}", '1:8: executing "" at <.Name>: range can\'t iterate over n'),
        ("{{json}}", '1:2: executing "" at <json>: wrong number of args for json: want 1 got 0'),
        ("{{eq `a` 1}}", '1:2: executing "" at <eq `a` 1>: error calling eq: incompatible types for comparison'),
        ("{{upper .Number}}", '1:8: executing "" at <.Number>: wrong type for value; expected string; got int'),
        ("{{upper 1}}", '1:8: executing "" at <1>: expected string; found 1'),
        ("{{.Name 1}}", '1:2: executing "" at <.Name>: Name is not a method but has arguments'),
        ("{{`a` 1}}", '1:2: executing "" at <`a`>: can\'t give argument to non-function `a`'),
        ("{{nil}}", '1:2: executing "" at <nil>: nil is not a command'),
        ('{{define "x"}}{{template "x"}}{{end}}{{template "x"}}', "exceeded maximum template depth"),
    ],
)
def test_what_the_value_does_not_have(template: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(template)
    assert caught.value.message.startswith("template: :") and caught.value.message.endswith(message)


def test_a_missing_key_can_be_an_error() -> None:
    with pytest.raises(UsageError, match='map has no entry for key "zz"'):
        made("{{.zz}}", missing_is_error=True)


@pytest.mark.parametrize(
    "format, operands, text",
    [
        (
            "%5d|%-5d|%05d|%x|%#X|%o|%b|%c|%q|%U",
            [42, 42, 42, 255, 255, 8, 5, 65, 65, 65],
            "   42|42   |00042|ff|0XFF|10|101|A|'A'|U+0041",
        ),
        ("%s|%6s|%-6s|%.2s|%q|% x", ["abc", "abc", "abc", "abc", 'a"', "abc"], 'abc|   abc|abc   |ab|"a\\""|61 62 63'),
        (
            "%v %g %e %.2f %08.3f|%+d|% d|%t",
            [1e6, 0.1, 1e6, 1.5, -1.5, 3, 4, True],
            "1e+06 0.1 1.000000e+06 1.50 -001.500|+3| 4|true",
        ),
        ("%T %T %T %T %T", [1, "a", [], {}, 1.5], "int string []interface {} map[string]interface {} float64"),
        ("%[2]s %[1]s", ["a", "b"], "b a"),
        ("%*d|%-*d", [5, 3, 4, 2], "    3|2   "),
        ("%d %z %", ["x", 1], "%!d(string=x) %!z(int=1) %!(NOVERB)"),
        ("%d %d", [1], "1 %!d(MISSING)"),
        ("%9999999d", [1], "%!(BADWIDTH)1"),
        ("%s %d %q", [["a"], ["a"], {"k": "v"}], '[a] [%!d(string=a)] map["k":"v"]'),
        ("%v %s %%", [None, None], "<nil> %!s(<nil>) %"),
    ],
)
def test_printf(format: str, operands: list[Any], text: str) -> None:
    assert printing.sprintf(format, operands) == text


@pytest.mark.parametrize(
    "nanoseconds, text",
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (2_000_000, "2ms"),
        (1_500_000_000, "1.5s"),
        (90_000_000_000, "1m30s"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert printing.duration(nanoseconds) == text


def test_json_is_gos() -> None:
    value = {"b": "\u2028\x01é\udcff", "a": [1, 1.5, 1e21, None, True]}
    assert jsontext.compact(value) == '{"a":[1,1.5,1e+21,null,true],"b":"\\u2028\\u0001é\ufffd"}'
    assert jsontext.compact("<none>", escape_html=True) == '"\\u003cnone\\u003e"'


# what commands show

HEADERS = {"ID": "AN ID", "Name": "NAMES"}
ROWS = [Row("*kind", {"ID": "1", "Name": "a"}, {"k": "v"}), Row("*kind", {"ID": "22", "Name": "b"}, {})]


@pytest.mark.parametrize(
    "format, text",
    [
        ("json", '{"ID":"1","Name":"a"}\n{"ID":"22","Name":"b"}\n'),
        ("{{json .}}", '{"ID":"1","Name":"a"}\n{"ID":"22","Name":"b"}\n'),
        ("{{.Name}}={{.ID}}", "a=1\nb=22\n"),
        ("table {{.ID}}\\t{{.Name}}", "AN ID     NAMES\n1         a\n22        b\n"),
        ('table {{.Label "k"}}\\t{{upper .Name}}', "k         NAMES\nv         A\n          B\n"),
        ('table {{range split .Name "x"}}{{.}}{{end}}', "\na\nb\n"),
        ('{{.Label "k"}}|', "v|\n|\n"),
    ],
)
def test_rows(format: str, text: str) -> None:
    assert templates.rows(format, ROWS, HEADERS) == text


def test_a_field_that_no_row_has() -> None:
    with pytest.raises(UsageError) as caught:
        templates.rows("{{.Nmae}}", ROWS, HEADERS)
    words = 'template parsing error: template: :1:2: executing "" at <.Nmae>: can\'t evaluate field Nmae in type *kind'
    assert caught.value.message == words
    assert templates.rows("table {{.Nmae}}", [], HEADERS) == "<no value>\n"


def test_a_column_is_as_wide_as_its_neighbours_need() -> None:
    text = "a\tb\nlonger than ten\tc\td\nno tab\nx\ty"
    assert formats.tabulated(text) == "a                 b\nlonger than ten   c         d\nno tab\nx         y"


def test_a_template_is_parsed_once_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    parse = templates.parse

    def noted(*args: Any) -> object:
        parsed.append(args)
        return parse(*args)

    monkeypatch.setattr(templates, "parse", noted)
    rows = [Row("*kind", {"ID": str(n), "Name": "a"}) for n in range(1000)]
    assert templates.rows("table {{.ID}}\\t{{.Name}}", rows, HEADERS).count("\n") == 1001
    assert len(parsed) == 1


# Go's structs

INSPECTED = {
    "Id": "abc",
    "State": {"Status": "running", "Pid": 7},
    "Config": {"Labels": {"a": "1"}, "Healthcheck": {"Interval": 90_000_000_000}},
    "HostConfig": {"NetworkMode": "bridge", "NanoCpus": 5, "PidsLimit": 3, "Own": 1},
    "Mounts": [],
}


@pytest.mark.parametrize(
    "template, text",
    [
        ("{{.ID}} {{.Id}}", None),
        ("{{.ID}} {{.State.Pid}} {{.State.Health}} {{.ExecIDs}} {{.SizeRw}}", "abc 7 <nil> [] <nil>"),
        ("{{.HostConfig.NanoCPUs}} {{.HostConfig.PidsLimit}} {{.HostConfig.NetworkMode}}", "5 3 bridge"),
        ('{{printf "%T %T" .HostConfig.NetworkMode .State}}', "container.NetworkMode *container.State"),
        ("{{.Config.Healthcheck.Interval}} {{.Config.Labels.zz}} {{.NetworkSettings}}", "1m30s <no value> <nil>"),
        ("{{json .State}}", '{"Status":"running","Running":false,"Paused":false,"Restarting":false,"OOMKilled":false,'
         '"Dead":false,"Pid":7,"ExitCode":0,"Error":"","StartedAt":"","FinishedAt":""}'),
        ("{{upper .HostConfig.NetworkMode}}", None),
        ("{{.State.Health.Status}}", None),
    ],
)  # fmt: skip
def test_structs(template: str, text: str | None) -> None:
    struct = gotypes.typed("container.InspectResponse", INSPECTED)
    if text is None:
        with pytest.raises(UsageError):
            made(template, struct)
    else:
        assert made(template, struct) == text


def test_json_of_a_struct_keeps_what_is_no_field_of_it() -> None:
    struct = gotypes.typed("container.InspectResponse", INSPECTED)
    assert templates.compact_json(struct).endswith("}") and '"Own":1' in templates.compact_json(struct)


def test_numbers_of_json_are_texts() -> None:
    assert made("{{len .Number}} {{json .Number}}", values.numbers_as_text(ITEM)) == "1 7"
