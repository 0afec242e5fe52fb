"""What can follow in an unfinished command line: what `mini __complete -- WORDS…` prints for the shells.

Only reads: the derived table says which commands and options there are, the stores which containers, images, volumes and
networks. Nothing is repaired or locked on the way, and no network is asked.
"""

from __future__ import annotations

import os

from engine import files
from engine.cli.table import ALIASES, COMMANDS, GROUPS
from engine.context import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from engine.paths import Paths

    Option = tuple[str, str, bool, Any, tuple[str, ...]]

# Where nothing else fits, the shell may complete the name of a file.
FILES = "@files"

_ACTIVE = ("running", "paused", "restarting")
_INACTIVE = ("created", "exited", "dead")
# Which containers a command is of use for; those of a command that is not here may be in any state.
_STATES = {
    "attach": ("running",),
    "exec": ("running",),
    "kill": _ACTIVE,
    "pause": ("running",),
    "port": _ACTIVE,
    "rm": _INACTIVE,
    "start": _INACTIVE,
    "stats": _ACTIVE,
    "stop": _ACTIVE,
    "top": _ACTIVE,
    "unpause": ("paused",),
    "wait": _ACTIVE,
}
# `image list` is `image ls`: understood, but not worth a line.
_SECOND_NAMES = ("list", "ps", "remove")

_WORDS: dict[str, tuple[str, ...]] = {
    "attach": ("stderr", "stdin", "stdout"),
    "cgroupns": ("host", "private"),
    "driver": ("local",),
    "format": ("json",),
    "health_on_failure": ("kill", "none", "restart", "stop"),
    "ipc": ("container:", "host", "none", "private", "shareable"),
    "isolation": ("default",),
    "log_driver": ("json-file", "local", "journald", "none"),
    "log_opts": (
        "compress=", "env=", "env-regex=", "labels=", "labels-regex=", "max-buffer-size=", "max-file=", "max-size=", "mode=",
        "tag=",
    ),
    "mounts": ("type=bind,", "type=tmpfs,", "type=volume,"),
    "networks": ("container:",),
    "pid": ("container:", "host"),
    "platform": ("linux/386", "linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/riscv64", "linux/s390x"),
    "pull": ("always", "missing", "never"),
    "restart": ("always", "no", "on-failure", "unless-stopped"),
    "runtime": ("mini",),
    "security_opt": ("apparmor=unconfined", "label=disable", "no-new-privileges", "seccomp="),
    "storage_driver": ("directory", "erofs"),
    "tail": ("all",),
    "type": ("container", "image", "network", "volume"),
    "userns": ("host",),
    "uts": ("host",),
    "volume_driver": ("local",),
}  # fmt: skip
_FILE_OPTIONS = ("cidfile", "devices", "env_files", "input", "label_files", "output", "root")
_PRUNE = ("label", "label!", "until")
_FILTERS = {
    "container prune": _PRUNE,
    "events": ("container", "event", "image", "label", "network", "scope", "type", "volume"),
    "images": ("before", "dangling", "label", "reference", "since", "until"),
    "image prune": (*_PRUNE, "dangling"),
    "ps": (
        "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network", "publish", "since",
        "status", "volume",
    ),
    "network ls": ("dangling", "driver", "id", "label", "name", "scope", "type"),
    "network prune": ("label", "label!", "until"),
    "search": ("is-automated", "is-official", "stars"),
    "system prune": _PRUNE,
    "volume ls": ("dangling", "driver", "label", "name"),
    "volume prune": ("all", "label", "label!"),
}  # fmt: skip
_FILTER_VALUES = {
    "all": ("false", "true"),
    "dangling": ("false", "true"),
    "driver": ("local",),
    "health": ("healthy", "none", "starting", "unhealthy"),
    "is-automated": ("false", "true"),
    "is-official": ("false", "true"),
    "is-task": ("false", "true"),
    "status": ("created", "dead", "exited", "paused", "removing", "restarting", "running"),
    "type": ("container", "image", "network", "volume"),
}


def candidates(context: Context, words: list[str]) -> list[str]:
    """What the last of the words (those after `mini`) may become, sorted. FILES stands for names of files.

    After one that ends in `=`, `:`, `,` or `/` more is to be typed, and no blank belongs.
    """
    *before, current = words or [""]
    line = _Line()
    for word in before:
        line.read(word)
    if line.globals:
        context = Context.from_environment(line.globals.get("root"), line.globals.get("storage_driver"))
    found = [*_following(context.paths, line, current)]
    fitting = sorted({word for word in found if word.startswith(current) and word != FILES})
    return fitting or ([FILES] if FILES in found else [])


class _Line:
    """The words before the one that is completed, as far as they say what it can be.

    `path` is the command, or the group while its command is to come, or "" at the beginning, or None where nobody knows.
    `open` is the option whose value comes next; `ended` says that no more options come.
    """

    def __init__(self) -> None:
        self.path: str | None = ""
        self.options = _options("")
        self.arguments: list[str] = []
        self.given: dict[str, str] = {}
        self.globals: dict[str, str] = {}
        self.open: Option | None = None
        self.ended = False

    @property
    def is_command(self) -> bool:
        return bool(self.path) and self.path in COMMANDS

    def read(self, word: str) -> None:
        if self.open:
            self._give(self.open, word)
            self.open = None
        elif self.ended or len(word) < 2 or word[0] != "-":
            self._argument(word)
        elif word == "--":
            self.ended = True
        elif word[1] == "-":
            self._long(word)
        else:
            self._shorts(word)

    def _argument(self, word: str) -> None:
        if self.path is None or (not self.path and word == "help"):
            return
        if self.is_command:
            self.arguments.append(word)
            self.ended = self.ended or not COMMANDS[self.path][2]
            return
        path = f"{self.path} {word}".lstrip()
        path = ALIASES.get(path, path)
        self.path = path if path in COMMANDS or path in GROUPS else None
        self.options = _options(path)

    def _long(self, word: str) -> None:
        name, equals, text = word.partition("=")
        option = self.options.get(name)
        if option and option[1] and not equals:
            self.open = option
        elif option:
            self._give(option, text)

    def _shorts(self, word: str) -> None:
        """`-it`, `-eA=b`, `-e`: the value of the last letter may be in the word, or come next."""
        for index, letter in enumerate(word[1:], 2):
            option = self.options.get(f"-{letter}")
            if option and option[1]:
                if index < len(word):
                    self._give(option, word[index:].removeprefix("="))
                else:
                    self.open = option
                return
            if option:
                self._give(option, "")

    def _give(self, option: Option, text: str) -> None:
        (self.given if self.path else self.globals)[option[0]] = text


def _options(path: str) -> dict[str, Option]:
    """Spelling → option of a command; none for a group."""
    return {spelling: option for option in COMMANDS[path][4] for spelling in option[4]} if path in COMMANDS else {}


def _following(paths: Paths, line: _Line, current: str) -> Iterable[str]:
    """All that may stand there, whether it begins with what is typed or not."""
    if line.path is None:
        return ()
    if line.open:
        return _values(paths, line, line.open, current)
    if not line.ended and current.startswith("-"):
        name, equals, text = current.partition("=")
        option = line.options.get(name)
        if equals and option and current.startswith("--"):
            return (word if word == FILES else f"{name}={word}" for word in _values(paths, line, option, text))
        return _spellings(line, long_only=current.startswith("--"))
    if not line.is_command:
        return _commands(line.path)
    return _operands(paths, line, current)


def _commands(group: str) -> Iterable[str]:
    prefix = f"{group} " if group else ""
    for path in (*COMMANDS, *ALIASES, *GROUPS):
        word = path.removeprefix(prefix)
        shown = path in COMMANDS or word not in _SECOND_NAMES
        if path.startswith(prefix) and word and shown and " " not in word and not word.startswith("__"):
            yield word
    if not group:
        yield "help"


def _spellings(line: _Line, long_only: bool) -> Iterable[str]:
    """Options that are not there yet, or may be there several times."""
    yield "--help"
    for name, _, many, _, spellings in line.options.values():
        if many or name not in line.given:
            # of `--network` and `--net` the first
            long = [spelling for spelling in spellings if spelling.startswith("--")][:1]
            yield from long if long_only else (*long, *(s for s in spellings if len(s) == 2))


def _values(paths: Paths, line: _Line, option: Option, current: str) -> Iterable[str]:
    name, kind, _, _, _ = option
    path = line.path or ""
    if not kind:
        return ("false", "true")
    if kind == "filter":
        return _filters(paths, path, current)
    if current.startswith("container:") and "container:" in _WORDS.get(name, ()):
        return (f"container:{container}" for container in _containers(paths, _ACTIVE))
    if name in _FILE_OPTIONS or (path == "registry serve" and name == "root"):
        return (FILES,)
    computed = _COMPUTED.get(name)
    return (*_WORDS.get(name, ()), *(computed(paths) if computed else ()))


def _filters(paths: Paths, path: str, current: str) -> Iterable[str]:
    name, equals, _ = current.partition("=")
    names = _FILTERS.get(path, ())
    if not equals or name not in names:
        return (f"{known}=" for known in names)
    if name in _FILTER_VALUES:
        return (f"{name}={value}" for value in _FILTER_VALUES[name])
    objects = _FILTER_OBJECTS.get(name)
    return (f"{name}={value}" for value in objects(paths)) if objects else ()


def _operands(paths: Paths, line: _Line, current: str) -> Iterable[str]:
    """By the word of the usage line: CONTAINER, [IMAGE...], SOURCE_IMAGE[:TAG]. What is named already is not offered again."""
    assert line.path
    words = COMMANDS[line.path][1].split()
    position = len(line.arguments)
    if position >= len(words):
        if not words or not words[-1].endswith("...]"):
            return ()
        position = -1
    found: Iterable[str]
    word = words[position].strip("[.]").partition("[")[0].partition("|")[0]
    if word == "CONTAINER":
        states = None if line.path == "rm" and "force" in line.given else _STATES.get(line.path)
        found = _containers(paths, states)
    elif word in ("CONTAINER:SRC_PATH", "DEST_PATH"):
        return (*(f"{container}:" for container in _containers(paths)), FILES)
    elif word == "NAME" and line.path == "inspect":
        found = _anything(paths, line.given.get("type"))
    elif word in ("VOLUME", "NETWORK"):
        found = [] if line.path.endswith(" create") else _volumes(paths) if word == "VOLUME" else _networks(paths)
    elif word == "file":
        return (FILES,)
    else:
        found = _images(paths) if word in _IMAGE_WORDS else _ARGUMENT_WORDS.get(word, ())
    return (name for name in found if name not in line.arguments)


# --- what the stores have


def _containers(paths: Paths, states: tuple[str, ...] | None = None) -> list[str]:
    """Names, by the states as they were written last: nothing is put right here."""
    from engine.containers import records

    found = []
    for record in records.list_all(paths):
        if states:
            state = record.load_state()["Status"]
            if state == "running" and os.path.exists(record.paused_mark):
                state = "paused"
            if state not in states:
                continue
        found.append(record.name)
    return found


def _images(paths: Paths) -> list[str]:
    from engine.images.reference import Reference
    from engine.storage.images import ImageStore

    names = (name for names in ImageStore(paths).names().values() for name in names)
    return [Reference.parse(name).familiar() for name in names if "@" not in name]


def _volumes(paths: Paths) -> list[str]:
    from engine.storage.volumes import Volumes

    return [volume.name for volume in Volumes(paths).list_()]


def _networks(paths: Paths) -> list[str]:
    return sorted({"bridge", "host", "none", *(n for n in files.names_in(paths.networks) if not n.startswith("."))})


def _anything(paths: Paths, kind: str | None) -> list[str]:
    kinds = {"container": _containers, "image": _images, "network": _networks, "volume": _volumes}
    return [name for key, names in kinds.items() if kind in (None, key) for name in names(paths)]


def _signals(_: Paths) -> list[str]:
    from engine.lean import signal

    return [name.removeprefix("SIG") for name in dir(signal) if name.startswith("SIG") and name[3] != "_"]


def _capabilities(_: Paths) -> list[str]:
    from engine.runtime.defaults import ALL_CAPABILITIES

    return ["ALL", *ALL_CAPABILITIES, *(name.removeprefix("CAP_") for name in ALL_CAPABILITIES)]


def _ulimits(_: Paths) -> list[str]:
    from engine.containers.config import ULIMITS

    return [f"{name}=" for name in ULIMITS]


def _mount_sources(paths: Paths) -> list[str]:
    return [*(f"{name}:" for name in _volumes(paths)), FILES]


_COMPUTED: dict[str, Callable[[Paths], Iterable[str]]] = {
    "cap_add": _capabilities,
    "cap_drop": _capabilities,
    "env": lambda _: os.environ,
    "networks": _networks,
    "signal": _signals,
    "stop_signal": _signals,
    "ulimits": _ulimits,
    "volumes": _mount_sources,
    "volumes_from": _containers,
}
_FILTER_OBJECTS: dict[str, Callable[[Paths], Iterable[str]]] = {
    "ancestor": _images,
    "before": _containers,
    "container": _containers,
    "image": _images,
    "name": _containers,
    "network": _networks,
    "since": _containers,
    "volume": _volumes,
}
# As they stand in usage lines, without brackets and what follows.
_IMAGE_WORDS = ("IMAGE", "MANIFEST", "NAME", "REPOSITORY", "SOURCE_IMAGE", "TARGET_IMAGE")
_ARGUMENT_WORDS: dict[str, tuple[str, ...]] = {"SHELL": ("bash", "fish", "zsh")}
