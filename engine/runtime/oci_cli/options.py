"""The command line as runc declares it, as data, and what reads it.

By hand: importing argparse takes 12 ms, and Go's flags are others (`-name` is `--name`, `--flag=false`).
"""

from __future__ import annotations

from engine.errors import Unsupported, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FLAG, _VALUE, _LIST = "", "value", "values"

# an option: (names, kind, what it does)
_BUNDLE = ("bundle b", _VALUE, "the bundle's directory (default: the current one)")
_CONSOLE = ("console-socket", _VALUE, "unix socket that receives the pty's master")
_PIDFD = ("pidfd-socket", _VALUE, "unix socket that receives a pidfd of the process")
_PID_FILE = ("pid-file", _VALUE, "file to write the process id to")
_PRESERVE = ("preserve-fds", _VALUE, "pass so many descriptors from 3 on, besides $LISTEN_FDS")
_DETACH = ("detach d", _FLAG, "do not wait for the process")
_FORMAT = ("format f", _VALUE, "table or json")
_CREATE = (
    _BUNDLE,
    _CONSOLE,
    _PIDFD,
    _PID_FILE,
    ("no-pivot", _FLAG, "move the root over / instead of pivot_root(2), for an initramfs"),
    ("no-new-keyring", _FLAG, "keep the caller's session keyring"),
    _PRESERVE,
)
_HELP = ("help h", _FLAG, "show this")

GLOBAL = (
    ("debug", _FLAG, "log every step"),
    ("log", _VALUE, "file for the log (default: standard error)"),
    ("log-format", _VALUE, "text or json"),
    ("root", _VALUE, "directory of the containers' state (default: /run/mini-runtime)"),
    ("systemd-cgroup", _FLAG, "let systemd manage the cgroups; cgroupsPath is slice:prefix:name"),
    ("cgroup-manager", _VALUE, "cgroupfs or systemd, crun's word for --systemd-cgroup"),
    ("rootless", _VALUE, "do without cgroups that may not be made: true, false or auto"),
    ("criu", _VALUE, "accepted and not used: there is no checkpoint"),
    _HELP,
    ("version v", _FLAG, "print the version"),
)

# command: (arguments, at least, at most (None: any), what it does, options)
COMMANDS: dict[str, tuple[str, int, int | None, str, tuple[tuple[str, str, str], ...]]] = {
    "create": ("ID", 1, 1, "create a container", _CREATE),
    "delete": ("ID", 1, 1, "delete a container", (("force f", _FLAG, "kill it if it runs; no error without it"),)),
    "events": (
        "ID",
        1,
        1,
        "show what a container uses, and when it lacks memory",
        (("interval", _VALUE, "time between two (default: 5s)"), ("stats", _FLAG, "once only")),
    ),
    "exec": (
        "ID COMMAND [ARG...]",
        1,
        None,
        "execute a further process in a container",
        (
            _CONSOLE,
            _PIDFD,
            ("cwd", _VALUE, "its directory"),
            ("env e", _LIST, "an environment variable, NAME=VALUE"),
            ("tty t", _FLAG, "give it a pty"),
            ("user u", _VALUE, "UID[:GID]"),
            ("additional-gids g", _LIST, "further groups"),
            ("process p", _VALUE, "JSON file of the process, instead of a command"),
            _DETACH,
            _PID_FILE,
            ("process-label", _VALUE, "SELinux label"),
            ("apparmor", _VALUE, "AppArmor profile"),
            ("no-new-privs", _FLAG, "set no_new_privs"),
            ("cap c", _LIST, "a further capability"),
            _PRESERVE,
            ("cgroup", _LIST, "PATH or CONTROLLER:PATH of a cgroup below the container's, which exists"),
            ("ignore-paused", _FLAG, "also where the container is paused"),
        ),
    ),
    "features": ("", 0, 0, "show what this runtime can do, as JSON", ()),
    "kill": ("ID [SIGNAL]", 1, 2, "send a signal, TERM by default", (("all a", _FLAG, "to every process"),)),
    "list": ("", 0, 0, "list containers", (_FORMAT, ("quiet q", _FLAG, "IDs only"))),
    "pause": ("ID", 1, 1, "stop all processes", ()),
    "ps": ("ID [PS-OPTION...]", 1, None, "list a container's processes", (_FORMAT,)),
    "resume": ("ID", 1, 1, "let all processes go on", ()),
    "run": (
        "ID",
        1,
        1,
        "create and start a container",
        (
            *_CREATE,
            _DETACH,
            ("keep", _FLAG, "do not delete it after its exit"),
            ("no-subreaper", _FLAG, "accepted and not needed: nobody's orphans come to this process"),
        ),
    ),
    "spec": ("", 0, 0, "write an example config.json", (_BUNDLE, ("rootless", _FLAG, "for a user other than root"))),
    "start": ("ID", 1, 1, "start the program of a created container", ()),
    "state": ("ID", 1, 1, "print a container's state as JSON", ()),
    "update": (
        "ID",
        1,
        1,
        "change the limits of a container",
        (
            (
                "resources r",
                _VALUE,
                "JSON file of linux.resources, - for standard input; other options do not count then",
            ),
            ("blkio-weight", _VALUE, "10 to 1000"),
            ("cpu-period", _VALUE, "microseconds"),
            ("cpu-quota", _VALUE, "microseconds of a period"),
            ("cpu-burst", _VALUE, "microseconds of quota that may be saved up"),
            ("cpu-share", _VALUE, "relative weight"),
            ("cpu-rt-period", _VALUE, "microseconds"),
            ("cpu-rt-runtime", _VALUE, "microseconds"),
            ("cpu-idle", _VALUE, "1: SCHED_IDLE for all processes"),
            ("cpuset-cpus", _VALUE, "processors"),
            ("cpuset-mems", _VALUE, "memory nodes"),
            ("kernel-memory", _VALUE, "accepted and not used: obsolete"),
            ("kernel-memory-tcp", _VALUE, "accepted and not used: obsolete"),
            ("memory", _VALUE, "bytes"),
            ("memory-reservation", _VALUE, "bytes"),
            ("memory-swap", _VALUE, "bytes of memory and swap, -1 for any"),
            ("pids-limit", _VALUE, "processes"),
            ("l3-cache-schema", _VALUE, "Intel RDT, refused"),
            ("mem-bw-schema", _VALUE, "Intel RDT, refused"),
        ),
    ),
}
# what follows the first argument of these is another program's
_IN_ORDER = ("exec", "ps")
# runc's; Podman takes it for supported where its --help succeeds
_REFUSED = ("checkpoint", "restore")


class Line:
    """A command line that was read. Options by their first name: True, the value, or a list of them; absent where not given."""

    __slots__ = ("arguments", "command", "options", "settings")

    def __init__(self, settings: dict[str, Any], command: str, options: dict[str, Any], arguments: list[str]) -> None:
        self.settings = settings
        self.command = command
        self.options = options
        self.arguments = arguments


def parse(argv: list[str]) -> Line:
    """Reads the words after the program's name. Raises UsageError, Unsupported.

    No command and `--help`, `--version` come back as they are, for the caller to answer.
    """
    settings, words = _read(argv, GLOBAL, in_order=True)
    if not words:
        return Line(settings, "", {}, [])
    command, rest = words[0], words[1:]
    if command in ("help", "h") and not rest:
        return Line({**settings, "help": True}, "", {}, [])
    if command in ("help", "h"):
        command, rest = rest[0], ["--help"]
    if command in _REFUSED:
        raise Unsupported(f"{command} is not supported: mini-runtime does not call CRIU")
    if command not in COMMANDS:
        raise UsageError(f"No help topic for '{command}'")
    _, least, most, _, declared = COMMANDS[command]
    options, arguments = _read(rest, (*declared, _HELP), command in _IN_ORDER)
    if not options.get("help"):
        _check_count(command, len(arguments), least, most)
    return Line(settings, command, options, arguments)


def _check_count(command: str, count: int, least: int, most: int | None) -> None:
    if least <= count and (most is None or count <= most):
        return
    if least == most:
        rule = f"exactly {least}"
    elif count < least:
        rule = f"a minimum of {least}"
    else:
        rule = f"a maximum of {most}"
    raise UsageError(f'"{command}" requires {rule} argument(s)')


def _read(
    words: list[str], declared: tuple[tuple[str, str, str], ...], in_order: bool
) -> tuple[dict[str, Any], list[str]]:
    """(options, arguments). `in_order`: what follows the first argument is all arguments."""
    known = {name: (names.split()[0], kind) for names, kind, _ in declared for name in names.split()}
    options: dict[str, Any] = {}
    arguments: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            return options, arguments + left
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            if in_order:
                return options, arguments + left
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if name not in known and _are_flags(name, known) and not word.startswith("--"):
            options |= {known[letter][0]: True for letter in name}
            continue
        if name not in known:
            raise UsageError(f"flag provided but not defined: -{name}")
        first, kind = known[name]
        if kind == _FLAG:
            options[first] = _boolean(name, value) if equals else True
            continue
        if not equals:
            if not left:
                raise UsageError(f"flag needs an argument: -{name}")
            value = left.pop(0)
        options[first] = value if kind == _VALUE else [*options.get(first, ()), value]
    return options, arguments


def _are_flags(letters: str, known: dict[str, tuple[str, str]]) -> bool:
    return all(letter in known and known[letter][1] == _FLAG for letter in letters)


def _boolean(name: str, value: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise UsageError(f'invalid boolean value "{value}" for -{name}: parse error')


def usage(command: str) -> str:
    """The text of `--help`, of the program where there is no such command."""
    if command not in COMMANDS:
        rows = [(name, text) for name, (_, _, _, text, _) in COMMANDS.items()]
        return (
            "Usage: mini-runtime [OPTION...] COMMAND [OPTION...] [ARG...]\n\n"
            "Runs bundles of the Open Container Initiative's runtime specification.\n\n"
            f"Commands:\n{_columns(rows)}\n\nOptions:\n{_columns(_option_rows(GLOBAL))}\n"
        )
    arguments, _, _, text, declared = COMMANDS[command]
    line = " ".join(word for word in ("mini-runtime", command, "[OPTION...]", arguments) if word)
    return f"Usage: {line}\n\n{text}\n\nOptions:\n{_columns(_option_rows((*declared, _HELP)))}\n"


def _option_rows(declared: tuple[tuple[str, str, str], ...]) -> list[tuple[str, str]]:
    return [
        (", ".join(("-" if len(n) == 1 else "--") + n for n in names.split()) + (" VALUE" if kind else ""), text)
        for names, kind, text in declared
    ]


def _columns(rows: list[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows) + 2
    return "\n".join(f"  {left:{width}}{right}" for left, right in rows)
