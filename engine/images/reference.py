"""Image references: what `alpine`, `user/app:1.2` and `host:5000/a/b@sha256:…` mean.

The grammar, the default domain and the error texts are those of the distribution project's `reference` package, which
Docker, Podman and containerd share: https://github.com/distribution/reference (reference.go, normalize.go). It is
written with string methods: compiling the equivalent regular expressions would cost the hot path more than parsing.
"""

from __future__ import annotations

from engine.errors import InvalidReference
from engine.oci.digest import HEX_DIGITS, is_digest, is_hex_id

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_PATH = 255
_MAX_TAG = 128

_DIGITS = "0123456789"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_ALPHANUMERIC = _LOWER + _DIGITS
_LETTERS = _LOWER + _LOWER.upper()
_WORD = _LETTERS + _DIGITS + "_"
_GAPS = str.maketrans(_ALPHANUMERIC, " " * len(_ALPHANUMERIC))
_HINT = "a reference is [HOST[:PORT]/]NAME[:TAG][@sha256:HEX], for instance alpine, alpine:3.20 or ghcr.io/user/app:1"


class Reference:
    """A name in a registry, complete: `tag` is None only where `digest` is given. Immutable by convention, hashable.

    `domain` is the registry as users write it (`docker.io`, `localhost:5000`), `path` the repository in it
    (`library/alpine`), `digest` is `sha256:HEX`. With both tag and digest, the digest decides what is pulled.
    """

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str | None = None, digest: str | None = None) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag if tag or digest else DEFAULT_TAG
        self.digest = digest

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference that Docker reads from `text`. Raises InvalidReference with Docker's wording."""
        if is_hex_id(text):
            raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        domain, remainder = _split_domain(text)
        name = remainder.partition(":")[0]
        if name.lower() != name:
            raise InvalidReference(f"invalid reference format: repository name ({name}) must be lowercase")
        rest, at, digest = remainder.partition("@")
        path, colon, tag = rest.partition(":")
        if not (_is_domain(domain) and all(map(_is_path_component, path.split("/")))) or (colon and not is_tag(tag)):
            raise InvalidReference("invalid reference format", _HINT)
        if len(path) > _MAX_PATH:
            raise InvalidReference(f"repository name must not be more than {_MAX_PATH} characters")
        if at:
            _check_digest(digest)
        return cls(domain, path, tag or None, digest or None)

    @property
    def repository(self) -> str:
        """`docker.io/library/alpine`: without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """`alpine`: the repository as Docker shows it, without the default domain and `library/`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        short = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in short else short

    def familiar(self) -> str:
        """`alpine:3.20`: Docker's short form, with what there is of tag and digest."""
        return self.familiar_name + self._suffix()

    def canonical(self) -> str:
        """`docker.io/library/alpine:3.20`: the complete form, one string for one reference."""
        return self.repository + self._suffix()

    def with_digest(self, digest: str) -> Reference:
        """The same repository by content only: `docker.io/library/alpine@sha256:HEX`, as in an image's RepoDigests."""
        return Reference(self.domain, self.path, None, digest)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash(self.canonical())

    def __str__(self) -> str:
        return self.familiar()

    def __repr__(self) -> str:
        return f"Reference({self.canonical()!r})"


def is_tag(text: str) -> bool:
    """Whether `text` is a tag of the distribution specification."""
    return 0 < len(text) <= _MAX_TAG and not text.strip(_WORD + ".-") and text[0] in _WORD


def is_path(text: str) -> bool:
    """Whether `text` is a repository's name within its registry: `library/alpine`."""
    return len(text) <= _MAX_PATH and all(map(_is_path_component, text.split("/")))


def _split_domain(name: str) -> tuple[str, str]:
    """The first component is a domain if it has a dot, a colon or an upper-case letter, or is `localhost`."""
    first, slash, rest = name.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + name
    if first == _LEGACY_DOMAIN:
        domain, remainder = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, name
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _is_domain(domain: str) -> bool:
    """host[:port], where a host is a DNS name, an IPv4 address or an IPv6 address in brackets."""
    if domain.startswith("["):
        host, bracket, rest = domain[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
        valid = bool(bracket and host) and not host.strip(HEX_DIGITS + "ABCDEF:") and (not rest or bool(port))
    else:
        host, colon, port = domain.partition(":")
        valid = all(_is_domain_component(c) for c in host.split(".")) and (not colon or bool(port))
    return valid and not port.strip(_DIGITS)


def _is_domain_component(text: str) -> bool:
    return bool(text) and not text.strip(_LETTERS + _DIGITS + "-") and text[0] != "-" and text[-1] != "-"


def _is_path_component(text: str) -> bool:
    """Lower-case letters and digits, separated by one dot, one or two underscores or any number of dashes."""
    if not text or text.strip(_ALPHANUMERIC + "._-") or text[0] not in _ALPHANUMERIC or text[-1] not in _ALPHANUMERIC:
        return False
    return all(gap in (".", "_", "__") or not gap.strip("-") for gap in text.translate(_GAPS).split())


def _check_digest(digest: str) -> None:
    """Raises InvalidReference, with go-digest's wording, for anything but sha256."""
    algorithm, _, value = digest.partition(":")
    if not algorithm or len(value) < 32 or value.strip(HEX_DIGITS + "ABCDEF"):
        raise InvalidReference("invalid reference format", _HINT)
    if algorithm != "sha256":
        raise InvalidReference(f"unsupported digest algorithm: {algorithm}", "mini knows sha256 only")
    if len(value) != 64:
        raise InvalidReference(f"invalid checksum digest length: {digest}", "sha256 has 64 hex digits")
    if not is_digest(digest):
        raise InvalidReference(f"invalid checksum digest format: {digest}", "hex digits are lower-case")
