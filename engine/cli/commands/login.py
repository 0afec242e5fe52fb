"""`mini login` and `mini logout`: Docker's prompts, words and file."""

from __future__ import annotations

import sys

from engine.context import Context
from engine.errors import RegistryError, Unauthorized, UsageError
from engine.images.credentials import Credential, CredentialStore, key_of
from engine.images.login import domain_of
from engine.images.login import login as prove
from engine.images.reference import DEFAULT_DOMAIN

_HUB = (
    "Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a Docker ID, "
    "head over to https://hub.docker.com/ to create one.\n"
    "You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better security "
    "and is required for organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/\n"
)
_UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""


def login(
    context: Context, server: str | None, username: str | None, password: str | None, password_stdin: bool
) -> None:
    domain = domain_of(server)
    store = CredentialStore(context.environ)
    password = _given(username, password, password_stdin)
    known = None if username or password else store.find(domain)
    accepted = _try_known(context, domain, known) if known and known.username and known.password else None
    if accepted is None:
        credential = _prompt(domain, username, password, known.username if known else "")
        accepted = prove(domain, credential, context.environ)
    if store.store(domain, accepted):
        _warn(_UNENCRYPTED.format(store.path))
    print("Login Succeeded")


def logout(context: Context, server: str | None) -> None:
    domain = domain_of(server)
    print(f"Removing login credentials for {key_of(domain)}", flush=True)
    CredentialStore(context.environ).erase(domain)


def _given(username: str | None, password: str | None, from_stdin: bool) -> str | None:
    """The password of the command line, or that on stdin, whose last line feed is not part of it."""
    if password and from_stdin:
        raise UsageError("conflicting options: cannot specify both --password and --password-stdin")
    if password:
        _warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if not from_stdin:
        return password
    if not username:
        raise UsageError("the --password-stdin option requires --username to be set")
    text = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not text:
        raise UsageError("password is empty")
    return text


def _try_known(context: Context, domain: str, known: Credential) -> Credential | None:
    _warn(f"Authenticating with existing credentials... [Username: {known.username}]\n")
    _warn(" Info -> To login with a different account, run 'mini logout' followed by 'mini login'\n\n")
    try:
        return prove(domain, known, context.environ)
    except Unauthorized:
        _warn("Stored credentials invalid or expired")
    except RegistryError as e:
        _warn(f"Login did not succeed, error: {e.message}")
    return None


def _prompt(domain: str, username: str | None, password: str | None, default: str) -> Credential:
    """Asks for what was not given. Raises UsageError where nobody is there to answer."""
    username = (username or "").strip()
    if not (username and password) and not sys.stdin.isatty():
        raise UsageError("Cannot perform an interactive login from a non TTY device", "give -u and --password-stdin")
    if not username:
        if domain == DEFAULT_DOMAIN:
            print(_HUB)
        username = _ask(f"Username ({default}): " if default else "Username: ").strip() or default
        if not username:
            raise UsageError("username is required")
    if not password:
        password = _ask_unseen("Password: ")
        if not password:
            raise UsageError("password is required")
    return Credential(username, password)


def _ask(prompt: str) -> str:
    print(prompt, end="", flush=True)
    return sys.stdin.readline().rstrip("\r\n")


def _ask_unseen(prompt: str) -> str:
    """As `_ask`, without echo; the terminal is put back also at ctrl-c."""
    import termios

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    silent = termios.tcgetattr(fd)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(fd, termios.TCSAFLUSH, silent)
    try:
        return _ask(prompt)
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)
        print(flush=True)


def _warn(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)
