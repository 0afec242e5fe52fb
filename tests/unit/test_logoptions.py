"""`--log-driver` and `--log-opt`: what they mean, and Docker's words for what they cannot."""

from __future__ import annotations

from typing import Any

import pytest

from engine.containers import logoptions
from engine.errors import UsageError
from engine.runtime.logs import journald
from engine.runtime.logs.drivers import Plan

CONFIG = {
    "Id": "0123456789ab" + "c" * 52,
    "Name": "/web",
    "Image": "sha256:" + "d" * 64,
    "Config": {
        "Image": "alpine:3",
        "Labels": {"com.x": "1", "com.y": "2", "other": "3"},
        "Env": ["A=1", "AB=2=3", "C=", "UNSET"],
    },
}


def plan(driver: str, *options: str) -> Plan:
    return logoptions.plan(CONFIG | {"HostConfig": {"LogConfig": logoptions.log_config(driver, options)}})


@pytest.fixture
def journal(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with a journal."""
    (tmp_path / "socket").touch()
    monkeypatch.setattr(journald, "SOCKET", f"{tmp_path}/socket")


@pytest.mark.parametrize(
    ("driver", "options", "size", "files", "compressed"),
    [
        ("", [], 10_000_000, 3, False),
        ("json-file", ["max-size=10k", "max-file=5"], 10_000, 5, False),
        ("json-file", ["max-size=-1"], 1 << 62, 3, False),
        ("json-file", ["max-size=1.5mb", "compress=true"], 1_500_000, 3, True),
        ("local", [], 20 << 20, 5, True),
        ("local", ["max-size=1g", "max-file=2", "compress=0"], 10**9, 2, False),
        ("local", ["max-file=1", "compress=false"], 20 << 20, 1, False),
    ],
)
def test_files(driver: str, options: list[str], size: int, files: int, compressed: bool) -> None:
    made = plan(driver, *options)
    assert (made.max_size, made.max_files, made.compress) == (size, files, compressed)
    assert made.buffer is None


def test_the_config_is_as_it_was_given() -> None:
    assert logoptions.log_config("none", []) == {"Type": "none", "Config": {}}
    assert logoptions.log_config("", ["tag=a=b"]) == {"Type": "json-file", "Config": {"tag": "a=b"}}


def test_modes() -> None:
    assert plan("local", "mode=blocking").buffer is None
    assert plan("local", "mode=non-blocking").buffer == 1_000_000
    assert plan("local", "mode=non-blocking", "max-buffer-size=4m").buffer == 4 << 20


def test_attributes() -> None:
    assert plan("", "labels=other,nosuch", "env=A,C,UNSET").attributes == {"A": "1", "C": "", "other": "3"}
    assert plan("", "labels-regex=^com[.]", "env-regex=B").attributes == {"AB": "2=3", "com.x": "1", "com.y": "2"}
    assert plan("", "labels=", "tag=").attributes == {}
    assert plan("local").attributes == {}


@pytest.mark.parametrize(
    ("template", "tag"),
    [
        ("plain", "plain"),
        ("{{.Name}}/{{ .ID }}", "web/0123456789ab"),
        ("{{.FullID}}", CONFIG["Id"]),
        # Docker counts the algorithm, too
        ("{{.ImageID}} {{.ImageFullID}} {{.ImageName}}", "sha256:ddddd sha256:" + "d" * 64 + " alpine:3"),
        ("{{.DaemonName}}", "mini"),
    ],
)
def test_tags(template: str, tag: str) -> None:
    assert plan("", f"tag={template}").attributes == {"tag": tag}


def test_the_fields_of_the_journal(journal: None) -> None:
    assert plan("journald", "labels-regex=com", "env=A").fields == {
        "CONTAINER_ID": "0123456789ab", "CONTAINER_ID_FULL": CONFIG["Id"], "CONTAINER_NAME": "web",
        "CONTAINER_TAG": "0123456789ab", "IMAGE_NAME": "alpine:3", "SYSLOG_IDENTIFIER": "0123456789ab",
        "COM_X": "1", "COM_Y": "2", "A": "1",
    }  # fmt: skip
    assert plan("journald", "tag={{.Name}}").fields["SYSLOG_IDENTIFIER"] == "web"


def test_names_that_the_journal_accepts() -> None:
    assert [journald.field_name(n) for n in ("a.b-C9", "_x", "__", "é1", "9")] == ["A_B_C9", "X", "", "1", "9"]


INIT = "failed to initialize logging driver: "


@pytest.mark.parametrize(
    ("driver", "option", "message"),
    [
        ("syslog", "", 'error looking up logging plugin syslog: plugin "syslog" not found'),
        ("fluentd", "tag=x", 'error looking up logging plugin fluentd: plugin "fluentd" not found'),
        ("none", "max-size=1m", "invalid logging opts for driver none"),
        ("json-file", "foo=1", "unknown log opt 'foo' for json-file log driver"),
        ("local", "tag=x", "unknown log opt 'tag' for log driver local"),
        ("journald", "max-size=1m", "unknown log opt 'max-size' for journald log driver"),
        ("journald", "", INIT + "journald is not enabled on this host"),
        ("json-file", "max-size=xx", INIT + "invalid size: 'xx'"),
        ("json-file", "max-size=0", INIT + "max-size must be a positive number"),
        ("json-file", "max-size=1_0", INIT + "invalid size: '1_0'"),
        ("json-file", "max-file=0", INIT + "max-file cannot be less than 1"),
        ("json-file", "max-file=xx", INIT + 'strconv.Atoi: parsing "xx": invalid syntax'),
        ("json-file", "compress=maybe", INIT + 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        ("local", "max-size=xx", INIT + "invalid value for max-size: xx: invalid size: 'xx'"),
        ("local", "max-file=-1", INIT + "max file count cannot be less than 0"),
        ("local", "max-file=1", INIT + "compression cannot be enabled when max file count is 1"),
        ("local", "compress=x", INIT + 'error reading compress log option: strconv.ParseBool: parsing "x": invalid'),
        ("json-file", "mode=x", "logger: logging mode not supported: x"),
        (
            "json-file",
            "max-buffer-size=1m",
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        ("json-file", "labels-regex=(", INIT + "error parsing regexp: "),
        ("json-file", "tag={{.ID", INIT + "template: log-tag:1: unclosed action"),
        ("json-file", "tag={{.Foo}}", INIT + "template: log-tag: {{.Foo}} is not understood"),
    ],
)
def test_what_is_refused(
    driver: str, option: str, message: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journald, "SOCKET", f"{tmp_path}/nosuch")
    with pytest.raises(UsageError) as refused:
        logoptions.log_config(driver, [option] if option else [])
    assert refused.value.message.startswith(message)


def test_sizes_of_a_buffer() -> None:
    with pytest.raises(UsageError, match="error parsing option max-buffer-size: invalid size: 'xx'"):
        logoptions.log_config("local", ["mode=non-blocking", "max-buffer-size=xx"])
    with pytest.raises(UsageError, match="compress cannot be true when max-file is less than 2"):
        logoptions.log_config("", ["compress=true", "max-file=1"])
