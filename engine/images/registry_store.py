"""What a registry server keeps: one directory, by content.

    blobs/sha256/HEX                          blobs and manifests, whatever their repository
    repositories/NAME/_links/HEX              the repository has this blob
    repositories/NAME/_manifests/HEX          the repository has this manifest; the file holds its media type
    repositories/NAME/_tags/TAG               the digest that the tag points at
    repositories/NAME/_referrers/SUBJECT/HEX  the descriptor of a manifest whose `subject` is SUBJECT
    uploads/ID                                a push under way (`registry_uploads`), or a file being written

A path component of a repository cannot begin with `_`, so names and the directories above never meet. Everything is
replaced by rename(2), a digest is verified before a blob gets its name, and what a manifest names is on disk before the
manifest is, and that before its tag. Errors are those of the distribution specification (v1.1.0, "Error Codes"). Deleting
takes content from a repository; the bytes go with `sweep`, if no repository has them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from typing import Any

from engine.errors import RegistryError
from engine.files import make_dirs, remove_file, sync_dir
from engine.images.reference import is_path, is_tag
from engine.images.registry_error import ApiError
from engine.images.registry_uploads import Uploads
from engine.oci.digest import is_digest, is_hex_id
from engine.oci.image import Descriptor, Index, Manifest, load_json, parse_manifest

# A push that nothing was heard of for a day is not coming back.
UPLOAD_AGE = 86400.0


class Content:
    """The directory. Names and digests are checked before they become paths."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.uploads = Uploads(f"{self.root}/uploads")

    def blob(self, digest: str) -> str:
        if not is_digest(digest):
            raise ApiError(400, "DIGEST_INVALID", f"not a sha256 digest: {digest}")
        return f"{self.root}/blobs/sha256/{digest[7:]}"

    def repository(self, name: str) -> str:
        if not is_path(name):
            raise ApiError(400, "NAME_INVALID", f"not a repository name: {name}")
        return f"{self.root}/repositories/{name}"

    def repositories(self) -> list[str]:
        """Every repository that has a manifest, sorted."""
        return sorted(name for name in self._names() if _listdir(f"{self.repository(name)}/_manifests"))

    def _names(self) -> list[str]:
        top = f"{self.root}/repositories"
        found = []
        for directory, names, _ in os.walk(top):
            if any(n.startswith("_") for n in names):
                found.append(os.path.relpath(directory, top))
            names[:] = [n for n in names if not n.startswith("_")]
        return found

    # --- blobs -----------------------------------------------------------------------------------------------------

    def has_blob(self, name: str, digest: str) -> bool:
        return os.path.exists(self._linked(name, "_links", digest)) and os.path.exists(self.blob(digest))

    def find_blob(self, digest: str, source: str | None) -> bool:
        """Whether it can be mounted: from a repository, or without one named (OCI 1.1) from whichever has it."""
        return any(self.has_blob(name, digest) for name in ([source] if source else self._names()))

    def link_blob(self, name: str, digest: str) -> None:
        """The repository has this blob from now on. No sync: `put_manifest` does it, for all of its blobs at once."""
        path = self._linked(name, "_links", digest)
        make_dirs(os.path.dirname(path))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def finish_upload(self, name: str, upload: str, digest: str) -> None:
        """Verifies what was uploaded, and gives it its name and the repository."""
        self.uploads.finish(upload, digest, self.blob(digest))
        self.link_blob(name, digest)

    def delete_blob(self, name: str, digest: str) -> None:
        _unlink(self._linked(name, "_links", digest), "BLOB_UNKNOWN")

    def _linked(self, name: str, kind: str, digest: str) -> str:
        """The path that says that the repository has a blob (`_links`) or manifest (`_manifests`)."""
        self.blob(digest)
        return f"{self.repository(name)}/{kind}/{digest[7:]}"

    # --- manifests and tags ----------------------------------------------------------------------------------------

    def tags(self, name: str) -> list[str]:
        repository = self.repository(name)
        if not os.path.isdir(f"{repository}/_manifests"):
            raise ApiError(404, "NAME_UNKNOWN", "repository name not known to registry")
        return sorted(t for t in _listdir(f"{repository}/_tags") if is_tag(t))

    def find_manifest(self, name: str, reference: str) -> tuple[str, str, bytes]:
        """(digest, media type, bytes) of a tag or a digest."""
        try:
            digest = reference if ":" in reference else _read(self._tag(name, reference)).decode()
            media_type = _read(self._linked(name, "_manifests", digest)).decode()
            return digest, media_type, _read(self.blob(digest))
        except FileNotFoundError:
            raise ApiError(404, "MANIFEST_UNKNOWN", "manifest unknown") from None

    def put_manifest(self, name: str, reference: str, data: bytes, content_type: str) -> tuple[str, str | None]:
        """Stores a manifest whose content is here already; (its digest, that of its subject)."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if ":" in reference and reference != digest:
            raise ApiError(400, "DIGEST_INVALID", f"the manifest's digest is {digest}")
        tag = None if ":" in reference else self._tag(name, reference)
        try:
            document = parse_manifest(data, content_type)
            subject = _subject(data)
        except RegistryError as e:
            raise ApiError(400, "MANIFEST_INVALID", e.message) from e
        missing = self._missing(name, document)
        if missing:
            raise ApiError(404, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {missing[0]}")
        self._sync(name)
        self._write(self.blob(digest), data)
        if subject:
            self._write(self._referrer(name, subject, digest), json.dumps(_referring(data, document, digest)).encode())
        self._write(self._linked(name, "_manifests", digest), document.media_type.encode())
        if tag:
            self._write(tag, digest.encode())
        return digest, subject

    def delete_manifest(self, name: str, reference: str) -> None:
        """A tag alone, or by digest the manifest with all tags that point at it."""
        if ":" not in reference:
            _unlink(self._tag(name, reference), "MANIFEST_UNKNOWN")
            return
        _, _, data = self.find_manifest(name, reference)
        for tag in self.tags(name):
            path = self._tag(name, tag)
            if _read(path).decode() == reference:
                remove_file(path)
        _unlink(self._linked(name, "_manifests", reference), "MANIFEST_UNKNOWN")
        if subject := _subject(data):
            remove_file(self._referrer(name, subject, reference))

    def referrers(self, name: str, subject: str) -> list[dict[str, Any]]:
        """The descriptors of the manifests that have this one as their subject (OCI 1.1), be it here or not."""
        directory = os.path.dirname(self._referrer(name, subject, subject))
        return [json.loads(_read(f"{directory}/{n}")) for n in sorted(_listdir(directory)) if is_hex_id(n)]

    def _tag(self, name: str, tag: str) -> str:
        if not is_tag(tag):
            raise ApiError(400, "TAG_INVALID", f"not a tag: {tag}")
        return f"{self.repository(name)}/_tags/{tag}"

    def _referrer(self, name: str, subject: str, digest: str) -> str:
        self.blob(subject)
        return f"{self.repository(name)}/_referrers/{subject[7:]}/{digest[7:]}"

    def _missing(self, name: str, document: Manifest | Index) -> list[str]:
        if isinstance(document, Index):
            entries = document.manifests
            return [d.digest for d in entries if not os.path.exists(self._linked(name, "_manifests", d.digest))]
        needed = (document.config, *document.layers)
        return [d.digest for d in needed if not d.urls and not self.has_blob(name, d.digest)]

    # --- on disk ---------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Removes uploads that were given up, and blobs that no repository has. The caller knows that nobody pushes."""
        self.uploads.sweep(UPLOAD_AGE)
        kept = set()
        for name in self._names():
            for kind in ("_links", "_manifests"):
                kept.update(_listdir(f"{self.repository(name)}/{kind}"))
        for name in _listdir(f"{self.root}/blobs/sha256"):
            if name not in kept:
                remove_file(f"{self.root}/blobs/sha256/{name}")

    def _sync(self, name: str) -> None:
        """Puts on disk that the blobs have their names, and the repository the blobs; their content is there already."""
        for directory in (f"{self.root}/blobs/sha256", f"{self.repository(name)}/_links"):
            if os.path.isdir(directory):
                sync_dir(directory)

    def _write(self, path: str, data: bytes) -> None:
        """Replaces a file as one step, synced; of several threads at the same path, the last one wins."""
        make_dirs(os.path.dirname(path))
        make_dirs(f"{self.root}/uploads")
        temporary = f"{self.root}/uploads/{secrets.token_hex(16)}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            remove_file(temporary)
            raise
        sync_dir(os.path.dirname(path))


def _subject(data: bytes) -> str | None:
    """The digest of a manifest's `subject`. Raises RegistryError where that is malformed."""
    subject = load_json(data, "manifest").get("subject")
    return Descriptor.from_json(subject, "manifest: subject").digest if subject else None


def _referring(data: bytes, document: Manifest | Index, digest: str) -> dict[str, Any]:
    """A manifest's descriptor in the list of those that refer to its subject (distribution-spec, "Listing Referrers")."""
    found: dict[str, Any] = {"mediaType": document.media_type, "size": len(data), "digest": digest}
    kind = load_json(data, "manifest").get("artifactType")
    if not kind and isinstance(document, Manifest):
        kind = document.config.media_type
    if isinstance(kind, str):
        found["artifactType"] = kind
    if document.annotations:
        found["annotations"] = dict(document.annotations)
    return found


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _unlink(path: str, code: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        raise ApiError(404, code, code.lower().replace("_", " ")) from None
