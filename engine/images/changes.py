"""Dockerfile instructions that change an image's config: `--change` of `import` and `commit`.

The instructions, their quoting and the expansion of variables are the Dockerfile's
(https://docs.docker.com/reference/dockerfile/); which of them may change a config is Docker's list (moby,
builder/dockerfile/builder.go, validCommitCommands). The config has Docker's field names, as in an image's `config`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.errors import UsageError

Config = dict[str, Any]
_SHELL = ["/bin/sh", "-c"]
_PORTS = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip


def apply_changes(config: Mapping[str, Any], changes: Iterable[str]) -> Config:
    """The config with each instruction applied in turn. UsageError for one that is none, or cannot be read."""
    changed = dict(config)
    for change in changes:
        for line in re.sub(r"\\[ \t]*\n", "", change).splitlines():
            line = line.strip()
            if line and not line.startswith("#"):
                _apply(changed, line)
    return changed


def _apply(config: Config, line: str) -> None:
    word, _, rest = line.partition(" ") if " " in line else line.partition("\t")
    instruction = _INSTRUCTIONS.get(word.upper())
    if instruction is None:
        known = ", ".join(sorted(_INSTRUCTIONS))
        raise UsageError(f"{word.lower()} is not a valid change command", f"those that change a config are {known}")
    rest = rest.strip()
    if not rest:
        raise UsageError(f"{word.upper()} requires at least one argument")
    instruction(config, rest)


# --- instructions --------------------------------------------------------------------------------------------------


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text)


def _env(config: Config, text: str) -> None:
    merged = _variables(config)
    for name, value in _pairs("ENV", text):
        merged[name] = expand(value, _variables(config))
    config["Env"] = [f"{name}={value}" for name, value in merged.items()]


def _label(config: Config, text: str) -> None:
    variables = _variables(config)
    labels = dict(config.get("Labels") or {})
    for name, value in _pairs("LABEL", text):
        labels[expand(name, variables)] = expand(value, variables)
    config["Labels"] = labels


def _expose(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in _words(text):
        word = expand(word, _variables(config))
        match = _PORTS.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last <= 65535:
            raise UsageError(f"invalid containerPort: {word}", "EXPOSE takes PORT[-PORT][/tcp|/udp|/sctp]")
        ports |= {f"{port}/{(match[3] or 'tcp').lower()}": {} for port in range(first, last + 1)}
    config["ExposedPorts"] = ports


def _volume(config: Config, text: str) -> None:
    listed = _json_strings(text)
    words = listed if listed is not None else [expand(word, _variables(config)) for word in _words(text)]
    if not all(word.strip() for word in words):
        raise UsageError("VOLUME specified can not be an empty string")
    config["Volumes"] = dict(config.get("Volumes") or {}) | {word: {} for word in words}


def _user(config: Config, text: str) -> None:
    config["User"] = expand(text, _variables(config))


def _workdir(config: Config, text: str) -> None:
    path = expand(text, _variables(config))
    config["WorkingDir"] = os.path.normpath(os.path.join("/", config.get("WorkingDir") or "", path))


def _stopsignal(config: Config, text: str) -> None:
    config["StopSignal"] = expand(text, _variables(config))


def _onbuild(config: Config, text: str) -> None:
    word = text.split()[0].upper()
    if word in ("ONBUILD", "FROM", "MAINTAINER"):
        raise UsageError(f"{word} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


def _healthcheck(config: Config, text: str) -> None:
    options = {"--interval": "Interval", "--timeout": "Timeout", "--start-period": "StartPeriod"}
    check: Config = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        text = text.lstrip()
        name, _, value = option.partition("=")
        if name in options:
            check[options[name]] = _duration(name, value)
        elif name == "--retries" and value.isdigit():
            check["Retries"] = int(value)
        else:
            raise UsageError(f"unknown flag: {option}", f"HEALTHCHECK has {', '.join(options)} and --retries")
    word, _, command = text.partition(" ")
    if word.upper() == "NONE" and not command.strip():
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if word.upper() != "CMD" or not command.strip():
        raise UsageError(f"unknown type {word!r} in HEALTHCHECK (try CMD)")
    listed = _json_strings(command.strip())
    test = ["CMD", *listed] if listed is not None else ["CMD-SHELL", command.strip()]
    config["Healthcheck"] = {"Test": test} | check


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


# --- their arguments -----------------------------------------------------------------------------------------------


def _command(text: str) -> list[str]:
    """The exec form is a JSON list of strings; whatever is not one is a line for the shell."""
    listed = _json_strings(text)
    return listed if listed is not None else [*_SHELL, text]


def _json_strings(text: str) -> list[str] | None:
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(v, str) for v in value) else None


def _pairs(instruction: str, text: str) -> list[tuple[str, str]]:
    """`K=V K=V …`, or the old form `K V`, where the rest of the line is one value."""
    words = _words(text)
    if "=" not in words[0]:
        if len(words) < 2:
            raise UsageError(f"{instruction} must have two arguments")
        return [(words[0], text[len(words[0]) :].strip())]
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        if not name:
            raise UsageError(f"{instruction} names can not be blank")
        pairs.append((name, value))
    return pairs


def _words(text: str) -> list[str]:
    """Split at blanks that are neither quoted nor escaped; quotes and backslashes stay for `expand`."""
    return re.findall(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s])+""", text, re.DOTALL)


def _variables(config: Config) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in config.get("Env") or ())}


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Quotes and backslashes taken away, `$NAME`, `${NAME}`, `${NAME:-word}` and `${NAME:+word}` replaced."""
    found, position, quote = [], 0, ""
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\" and quote != "'" and position < len(text):
            # within double quotes a backslash only escapes what would else mean something there
            if quote and text[position] not in '"$\\':
                found.append(character)
            found.append(text[position])
            position += 1
        elif character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        elif character == "$" and quote != "'":
            value, position = _variable(text, position, variables)
            found.append(value)
        else:
            found.append(character)
    if quote:
        raise UsageError(f"unexpected end of statement while looking for matching {quote}: {text}")
    return "".join(found)


def _variable(text: str, position: int, variables: Mapping[str, str]) -> tuple[str, int]:
    """The value of what follows a `$`, and where it ends. A `$` that no name follows is one."""
    if match := _NAME.match(text, position):
        return variables.get(match[0], ""), match.end()
    if not text.startswith("{", position):
        return "$", position
    end = text.find("}", position)
    match = _NAME.match(text, position + 1)
    if end < 0 or match is None:
        raise UsageError(f"syntax error: missing '}}' or name in {text!r}")
    modifier, word = text[match.end() : end][:2], text[match.end() : end][2:]
    value = variables.get(match[0], "")
    if modifier == ":-":
        value = value or expand(word, variables)
    elif modifier == ":+":
        value = expand(word, variables) if value else ""
    elif modifier:
        raise UsageError(f"unsupported modifier ({modifier}) in substitution: {text}")
    return value, end + 1


def _duration(option: str, text: str) -> int:
    """Go's `1m30s`, in nanoseconds."""
    if not re.fullmatch(f"(?:{_DURATION.pattern})+", text):
        raise UsageError(f"invalid duration {text!r} for {option}", "a duration is a number with a unit: 30s, 1m30s")
    return sum(int(float(number) * _UNITS[unit]) for number, unit in _DURATION.findall(text))
