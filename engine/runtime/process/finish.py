"""The last steps before execve(2), the same for a container's first process and for one that joins it.

Runs inside the container's namespaces and root, as the last of mini's own code, hence: no import (protect.py), no host
descriptor left open, no privilege kept. The order is the kernel's: docs/runtime.md gives the reason of each step.
"""

from __future__ import annotations

import errno
import os
import stat

from engine import linux
from engine.errors import CommandNotExecutable, CommandNotFound, RuntimeFault
from engine.lean import signal
from engine.oci import users
from engine.runtime import capabilities, devices, inside, rlimits
from engine.runtime.mounts import hint_for, reason
from engine.runtime.process import console, protect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from engine.oci.runtime import Process
    from engine.runtime.process.channel import Channel

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
_HIGHEST_ID = (1 << 32) - 2  # (uid_t) -1 means "leave as it is" to setresuid(2): CVE-2024-40635


class Step:
    """Where a checklist is: one call a step, so that an OSError can be told with what was being done, and to what."""

    __slots__ = ("name", "path", "what")

    def __init__(self) -> None:
        self("init", "set up the process")

    def __call__(self, name: str, what: str, path: str | None = None) -> None:
        self.name, self.what, self.path = name, what, path

    def fault(self, e: BaseException) -> RuntimeFault:
        """The error of this step. What is neither the kernel's nor ours is told by its name: a spec that lacks a key, a
        defect of ours."""
        if isinstance(e, RuntimeFault):
            return e
        if isinstance(e, OSError):
            return RuntimeFault(self.name, f"cannot {self.what}: {reason(e)}", e.errno or 0, self.path, hint_for(e))
        return RuntimeFault(self.name, f"cannot {self.what}: {type(e).__name__}: {e}", 0, self.path)


def report(channel: Channel, step: Step, error: BaseException) -> NoReturn:
    """Ends a process that cannot become the container's program, telling its parent why."""
    try:
        channel.send_fault(step.fault(error))
    finally:
        os._exit(1)


def await_message(channel: Channel, kind: str, other: str = "") -> bool:
    """Waits for the parent's message `kind`, which is the next; False where it is `other`. Ends here where the parent is gone."""
    answer = channel.receive()
    if answer is None:
        os._exit(1)
    if answer[0]["type"] not in (kind, other):
        raise RuntimeFault("init", f"waited for {kind}, received {answer[0]['type']}")
    return bool(answer[0]["type"] == kind)


def begin(process: Process, step: Step, keyring: bool = True) -> None:
    """What must be done, or closed for good, while the host's root is still there. `keyring`: a session keyring of its own."""
    step("signals", "reset the signals")
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE and SIGXFSZ, and what is ignored stays so
    step("session", "start a session")
    os.setsid()
    step("keyring", "join a session keyring")
    if keyring:
        _join_keyring()
    wanted = process.get("oomScoreAdj")
    if wanted is not None:
        step("oom_score_adj", f"set the OOM score to {wanted}")
        _set_oom_score(wanted)
    if process.get("apparmorProfile") or process.get("selinuxLabel"):
        step("label", "set the label of a security module")
        from engine.runtime import labels

        labels.at_exec(process)
    protect.forget_imports()


def _join_keyring() -> None:
    try:
        linux.keyctl_join_session_keyring()
    except OSError as e:
        if e.errno not in (errno.ENOSYS, errno.EPERM):  # not in this kernel; filtered by an outer container
            raise


def _set_oom_score(wanted: int) -> None:
    with open("/proc/self/oom_score_adj") as file:
        if int(file.read()) == wanted:  # lowering it needs CAP_SYS_RESOURCE, even to what it was
            return
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(wanted))


def connect(process: Process, stdio: tuple[int, int, int] | None, root: int, channel: Channel, first: bool) -> None:
    """Descriptors 0, 1 and 2: a new pty, whose master goes to the parent, or `stdio`, or what they are."""
    if process.get("terminal"):
        master, slave = console.open_pair(root, process.get("consoleSize"))
        if first:
            console.bind_console(slave, root)
        channel.send("console", fd=master)
        os.close(master)
        console.become_stdio((slave, slave, slave))
        os.close(slave)
        return
    if stdio:
        console.become_stdio(stdio)
    for fd in range(3):
        try:
            replaced = devices.is_null(fd)
        except OSError:  # closed
            replaced = True
        if replaced:
            _use_own_null(fd, root)


def _use_own_null(fd: int, root: int) -> None:
    """The host's /dev/null is an inode of the host's devtmpfs: through it, root of the container could change its mode.

    A root without a /dev/null of its own keeps what it was given.
    """
    try:
        null = devices.open_null(root, os.O_RDWR)
    except OSError:
        return
    os.set_blocking(null, True)
    os.dup2(null, fd)
    os.close(null)


def become_user(process: Process, root: int, step: Step) -> str:
    """The user, the directory: all but the last privileges are gone. Returns the path of the program."""
    user: dict[str, Any] = process.get("user", {})
    uid, gid = _identity(user, "uid"), _identity(user, "gid")

    step("user", "find the user's home", "/etc/passwd")
    if not _environment(process).get("HOME"):  # an empty one is none: images that rely on it are as old as LXC's Docker
        process["env"] = [*process.get("env", ()), f"HOME={_home(uid, root)}"]

    step("capabilities", "drop capabilities from the bounding set")
    capabilities.drop_bounding(capabilities.mask(process.get("capabilities", {}).get("bounding", ())))

    step("cwd", f"change to the directory {process['cwd']}", process["cwd"])
    arrived = _change_directory(process["cwd"], root, refused=False)

    step("user", f"become user {uid}:{gid}")
    own_stdio(uid, (0, 1, 2), terminal=bool(process.get("terminal")))
    linux.prctl(linux.PR_SET_KEEPCAPS, 1)
    _set_groups(user.get("additionalGids") or [])  # always: CVE-2022-36109, the caller's must not stay
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    linux.prctl(linux.PR_SET_KEEPCAPS, 0)
    os.umask(user.get("umask", 0o022))

    step("cwd", f"change to the directory {process['cwd']}", process["cwd"])
    if not arrived:
        _change_directory(process["cwd"], root, refused=True)
    _check_directory(process["cwd"])

    step("no_new_privs", "set no_new_privs")
    if process.get("noNewPrivileges"):
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)

    step("exec", "find the program")
    return find_program(process["args"], _environment(process).get("PATH", ""))


def confine(process: Process, seccomp: tuple[bytes, int] | None, channel: Channel, step: Step) -> None:
    """The filter, unless it is loaded already, and the capabilities. Of mini's own calls a filter must allow capget, capset,
    prctl and execve only, so this comes as late as can be; a hook is confined as the program is."""
    if not listens(seccomp):
        load_filter(seccomp, channel, step)
    drop_capabilities(process, step)


def await_start(channel: Channel, step: Step) -> None:
    """Tells the parent that all is done but execve(2), and waits for its word, or for that of whoever connects to the
    socket that the parent leaves."""
    step("ready", "wait for the start")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    channel.send("ready")
    answer = channel.receive()
    if answer is None:
        os._exit(1)
    if answer[0]["type"] == "created":
        for number in _ENDING:
            # a PID 1 without a handler ignores signals; execve(2) puts them back
            signal.signal(number, lambda n, _: os._exit(128 + n))
        channel.replace_by(answer[1])
        await_message(channel, "start")


def set_limits(process: Process, step: Step) -> None:
    """After the last descriptor was opened here, since RLIMIT_NOFILE may leave none; while a hard limit can be raised."""
    step("rlimit", "set the resource limits")
    capabilities.raise_effective()
    rlimits.restore_descriptors()
    rlimits.apply(process.get("rlimits", []))


def listens(seccomp: tuple[bytes, int] | None) -> bool:
    """Whether loading the filter gives a descriptor, for an agent that answers system calls (seccomp/listener.py)."""
    return seccomp is not None and bool(seccomp[1] & linux.SECCOMP_FILTER_FLAG_NEW_LISTENER)


def load_filter(seccomp: tuple[bytes, int] | None, channel: Channel, step: Step) -> None:
    """The seccomp filter. Without no_new_privs this takes CAP_SYS_ADMIN, so it comes before that goes."""
    step("seccomp", "load the seccomp filter")
    if seccomp:
        capabilities.raise_effective()
        fd = linux.seccomp_set_filter(*seccomp)
        if listens(seccomp):
            channel.send("listener", fd=fd)
            os.close(fd)


def drop_capabilities(process: Process, step: Step) -> None:
    step("capabilities", "set the capabilities")
    capabilities.apply(process.get("capabilities", {}))


def execute(program: str, process: Process, step: Step) -> NoReturn:
    step("exec", f"execute {program}", program)
    try:
        os.execve(program, process["args"], _environment(process))
    except OSError as e:
        kind = CommandNotFound if e.errno == errno.ENOENT else CommandNotExecutable
        raise kind("exec", f"exec {program}: {reason(e)}", e.errno or 0, program) from e


def _environment(process: Process) -> dict[str, str]:
    environment = {}
    for pair in process.get("env", ()):
        name, separator, value = pair.partition("=")
        if not name or not separator:
            raise RuntimeFault("exec", f"not an environment variable: {pair!r}")
        environment[name] = value
    return environment


def _identity(user: dict[str, Any], key: str) -> int:
    number = user.get(key, 0)
    if not isinstance(number, int) or not 0 <= number <= _HIGHEST_ID:
        raise RuntimeFault("user", f"not a {key}: {number}")
    return number


def _home(uid: int, root: int) -> str:
    """As runc: what a program finds in $HOME, where the spec says nothing, is the container's /etc/passwd's.

    Looked at before it is opened: an image's file may be a device. Not by /proc/self, which whoever joins does not have yet.
    """
    try:
        for flags in (linux.O_PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY):
            fd = inside.open_in(root, "/etc/passwd", flags)
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                os.close(fd)
                return "/"
            data = os.read(fd, min(info.st_size, users.MAX_FILE)) if flags != linux.O_PATH else b""
            os.close(fd)
    except OSError:
        return "/"
    return users.home_of(uid, data)


def _set_groups(groups: list[int]) -> None:
    """setgroups(2). A user namespace of one id has given it up (user_namespaces(7)): nothing is gained or lost in there then."""
    try:
        os.setgroups(groups)
    except PermissionError:
        given_up = linux.capget()[0] & capabilities.mask(["CAP_SETGID"])
        if groups or not given_up:
            raise


def own_stdio(uid: int, stdio: tuple[int, int, int], terminal: bool = False) -> None:
    """Gives the user the pipes or the pty that we made, so that `echo > /dev/stdout` works; a host's own file is left."""
    for fd in stdio:
        try:
            ours = terminal or linux.fstatfs_type(fd) == linux.PIPEFS_MAGIC
        except OSError:  # closed, see connect
            continue
        if ours and os.fstat(fd).st_uid != uid:
            try:
                os.fchown(fd, uid, -1)
            except PermissionError:  # in a user namespace, a pipe of somebody who is not in its map
                continue


def _change_directory(path: str, root: int, refused: bool) -> bool:
    """fchdir(2) to `path` in the root. False where permission is denied, unless `refused` makes that an error.

    Tried as root and, where root may not (NFS), again as the user, as runc has it. The descriptor cannot be a magic link.
    """
    try:
        fd = inside.open_in(root, path, linux.O_PATH | os.O_DIRECTORY)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
        return True
    except PermissionError:
        if refused:
            raise
        return False


def _check_directory(path: str) -> None:
    """CVE-2024-21626: a working directory outside of the root would be a way out. The kernel says so in getcwd(2)."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = ""
    if not here.startswith("/"):
        raise RuntimeFault("cwd", f"the directory {path} is outside of the container's root", errno.EPERM, path)


def set_personality(settings: dict[str, Any], step: Step) -> None:
    """The spec's `linux.personality`: whether uname(2) tells of a 32-bit machine. A filter may refuse the call later."""
    wanted = settings.get("personality")
    if wanted:
        step("personality", f"set the personality {wanted['domain']}")
        linux.personality({"LINUX": linux.PER_LINUX, "LINUX32": linux.PER_LINUX32}[wanted["domain"]])


def find_program(args: list[str], search: str) -> str:
    """The path to execute for `args[0]`, as this process's user finds it. Raises CommandNotFound, CommandNotExecutable.

    A name without a slash is looked for in `search` (PATH); what cannot be executed there is passed over. The messages
    are Docker's.
    """
    name = args[0] if args else ""
    if not name:
        raise CommandNotFound("exec", "no command specified", errno.ENOENT)
    if "/" in name:
        return _executable(name)
    for directory in search.split(":"):
        candidate = f"{directory or '.'}/{name}"
        try:
            return _executable(candidate)
        except RuntimeFault:
            continue
    raise CommandNotFound("exec", f'exec: "{name}": executable file not found in $PATH', errno.ENOENT, name)


def _executable(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        code = e.errno or 0
        if code in (errno.ENOENT, errno.ENOTDIR):
            raise CommandNotFound("exec", f'exec: "{path}": stat {path}: {reason(e)}', code, path) from None
        raise CommandNotExecutable("exec", f'exec: "{path}": {reason(e)}', code, path) from None
    if stat.S_ISDIR(mode):
        raise CommandNotExecutable("exec", f'exec: "{path}": is a directory', errno.EISDIR, path)
    if not os.access(path, os.X_OK):
        raise CommandNotExecutable("exec", f'exec: "{path}": permission denied', errno.EACCES, path)
    return path


def close_all_but(channel: Channel, preserved: int = 0) -> None:
    """Closes every descriptor from 3 + `preserved` on but the channel, which execve(2) closes: the program inherits what it
    was given, and could not name another as its own path or directory (CVE-2024-21626)."""
    channel.move_to(3 + preserved)
    linux.close_range(4 + preserved)
