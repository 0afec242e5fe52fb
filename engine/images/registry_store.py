"""What a registry server keeps: one directory, by content.

    blobs/sha256/HEX                         blobs and manifests, whatever their repository
    repositories/NAME/_links/HEX             the repository has this blob
    repositories/NAME/_manifests/HEX         the repository has this manifest; the file holds its media type
    repositories/NAME/_tags/TAG              the digest that the tag points at
    uploads/ID                               a push under way

A path component of a repository cannot begin with `_`, so names and the directories above never meet. Everything is
replaced by rename(2), and a digest is verified before a blob gets its name. Errors are those of the distribution
specification (v1.1.0, "Error Codes"). Deleting takes content from a repository; the bytes stay, for the others that have them.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading

from engine.errors import RegistryError
from engine.files import make_dirs, remove_file, write_atomic
from engine.images.reference import is_path, is_tag
from engine.oci.digest import is_digest
from engine.oci.image import Index, parse_manifest

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}$")


class ApiError(Exception):
    """An answer of the specification's error format: `code` is one of its table of error codes."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Content:
    """The directory. Names and digests are checked before they become paths."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        # `write_atomic` names its temporary file by process: two threads must not write the same path at once.
        self._lock = threading.Lock()

    def blob(self, digest: str) -> str:
        if not is_digest(digest):
            raise ApiError(400, "DIGEST_INVALID", f"not a sha256 digest: {digest}")
        return f"{self.root}/blobs/sha256/{digest[7:]}"

    def repository(self, name: str) -> str:
        if not is_path(name):
            raise ApiError(400, "NAME_INVALID", f"not a repository name: {name}")
        return f"{self.root}/repositories/{name}"

    def linked(self, name: str, kind: str, digest: str) -> str:
        """The path that says that the repository has a blob (`_links`) or manifest (`_manifests`)."""
        self.blob(digest)
        return f"{self.repository(name)}/{kind}/{digest[7:]}"

    def link(self, name: str, kind: str, digest: str, value: str = "") -> None:
        path = self.linked(name, kind, digest)
        self._write(path, value.encode())

    def has_blob(self, name: str, digest: str) -> bool:
        return os.path.exists(self.linked(name, "_links", digest)) and os.path.exists(self.blob(digest))

    def tag_path(self, name: str, tag: str) -> str:
        if not is_tag(tag):
            raise ApiError(400, "TAG_INVALID", f"not a tag: {tag}")
        return f"{self.repository(name)}/_tags/{tag}"

    def tags(self, name: str) -> list[str]:
        repository = self.repository(name)
        if not os.path.isdir(f"{repository}/_manifests"):
            raise ApiError(404, "NAME_UNKNOWN", "repository name not known to registry")
        return sorted(t for t in _listdir(f"{repository}/_tags") if is_tag(t))

    def repositories(self) -> list[str]:
        """Every repository that has a manifest, sorted."""
        top = f"{self.root}/repositories"
        found = []
        for directory, names, _ in os.walk(top):
            if "_manifests" in names and _listdir(f"{directory}/_manifests"):
                found.append(os.path.relpath(directory, top))
            names[:] = [n for n in names if not n.startswith("_")]
        return sorted(found)

    def find_manifest(self, name: str, reference: str) -> tuple[str, str, bytes]:
        """(digest, media type, bytes) of a tag or a digest."""
        unknown = ApiError(404, "MANIFEST_UNKNOWN", "manifest unknown")
        try:
            digest = reference if ":" in reference else _read(self.tag_path(name, reference)).decode()
            media_type = _read(self.linked(name, "_manifests", digest)).decode()
            return digest, media_type, _read(self.blob(digest))
        except FileNotFoundError:
            raise unknown from None

    def put_manifest(self, name: str, reference: str, data: bytes, content_type: str) -> str:
        """Stores a manifest whose content is here already; returns its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if ":" in reference and reference != digest:
            raise ApiError(400, "DIGEST_INVALID", f"the manifest's digest is {digest}")
        try:
            document = parse_manifest(data, content_type)
        except RegistryError as e:
            raise ApiError(400, "MANIFEST_INVALID", e.message) from e
        if isinstance(document, Index):
            missing = [d.digest for d in document.manifests if not self._has_manifest(name, d.digest)]
        else:
            needed = (document.config, *document.layers)
            missing = [d.digest for d in needed if not d.urls and not self.has_blob(name, d.digest)]
        if missing:
            raise ApiError(404, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {missing[0]}")
        self._write(self.blob(digest), data)
        self.link(name, "_manifests", digest, document.media_type)
        if ":" not in reference:
            self._write(self.tag_path(name, reference), digest.encode())
        return digest

    def _write(self, path: str, data: bytes) -> None:
        make_dirs(os.path.dirname(path))
        with self._lock:
            write_atomic(path, data, sync=False)

    def _has_manifest(self, name: str, digest: str) -> bool:
        return os.path.exists(self.linked(name, "_manifests", digest))

    def delete_manifest(self, name: str, reference: str) -> None:
        """A tag alone, or by digest the manifest with all tags that point at it."""
        if ":" not in reference:
            unlink(self.tag_path(name, reference), "MANIFEST_UNKNOWN")
            return
        unlink(self.linked(name, "_manifests", reference), "MANIFEST_UNKNOWN")
        for tag in self.tags(name):
            path = self.tag_path(name, tag)
            if _read(path).decode() == reference:
                remove_file(path)

    def delete_blob(self, name: str, digest: str) -> None:
        """Takes the blob from this repository; the bytes stay for the others."""
        unlink(self.linked(name, "_links", digest), "BLOB_UNKNOWN")

    def new_upload(self) -> str:
        upload = secrets.token_hex(16)
        make_dirs(f"{self.root}/uploads")
        with open(self.upload(upload), "xb"):
            return upload

    def upload(self, upload: str) -> str:
        if not _UPLOAD_ID.match(upload):
            raise ApiError(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown")
        return f"{self.root}/uploads/{upload}"

    def finish_upload(self, name: str, upload: str, digest: str) -> None:
        """Verifies what was uploaded and gives it its name."""
        path, target = self.upload(upload), self.blob(digest)
        with open(path, "rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != digest:
            remove_file(path)
            raise ApiError(400, "DIGEST_INVALID", f"the uploaded content is {found}")
        make_dirs(os.path.dirname(target))
        os.replace(path, target)
        self.link(name, "_links", digest)


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def unlink(path: str, code: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        raise ApiError(404, code, code.lower().replace("_", " ")) from None
