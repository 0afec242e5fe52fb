"""What `cp` does with which paths: Docker's rules (moby, pkg/archive/copy.go; cli, command/container/cp.go). Pure.

SRC is            DEST is missing            DEST is a directory          DEST is a file
a file            made, its parent exists    goes into it                 replaced
a file            DEST/: refused
a directory       made                       goes into it, by its name    refused
a directory/.     made                       its content goes into it     refused
"""

from __future__ import annotations

import posixpath

from engine.errors import UsageError


def split_argument(argument: str) -> tuple[str, str]:
    """(container, path); no container for a path of the host's. A colon in a name of the host's needs a `/` or `.` first."""
    name, colon, path = argument.partition(":")
    if argument.startswith("/") or not colon or name.startswith("."):
        return "", argument
    return name, path


def absolute(path: str, cwd: str) -> str:
    """The path from the root, cleaned as a name (Go's filepath.Join), but for a trailing `/` or `/.`, which means something."""
    clean = "/" + posixpath.normpath(posixpath.join(cwd, path)).lstrip("/")
    if path == "." or path.endswith("/."):
        return f"{clean.rstrip('/')}/."
    if path.endswith("/") and clean != "/":
        return f"{clean}/"
    return clean


def is_directory_wanted(path: str) -> bool:
    """Whether the path says that it is a directory."""
    return path.endswith(("/", "/."))


def last_name(path: str) -> str:
    """The name that a source goes by: "." for what is inside of a directory, "" for the root."""
    return "." if path.endswith("/.") else posixpath.basename(path.rstrip("/"))


def split(path: str) -> tuple[str, str]:
    """(directory, name) of an absolute path; the name is empty where the path says that it is a directory."""
    directory, _, name = path.rpartition("/")
    return (path, "") if name in ("", ".") else (directory or "/", name)


def target(source_name: str, source_is_directory: bool, path: str, kind: str) -> tuple[str, str]:
    """(directory to write below, name there) for a source and the destination `path`, which is "directory", "file" or
    "missing". The name "." is of what is inside of a directory. Raises UsageError in Docker's words."""
    if kind == "directory":
        return path, source_name or "."
    if kind == "file" and source_is_directory:
        raise UsageError("cannot copy directory")
    if kind == "missing" and not source_is_directory and is_directory_wanted(path):
        raise UsageError("no such directory")
    directory, _, name = path.rstrip("/").removesuffix("/.").rpartition("/")
    return directory or "/", name
