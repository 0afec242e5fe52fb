"""References, challenges, registries' names, platforms: short texts that strangers write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidReference, RegistryError, Unauthorized, UsageError
from engine.images.auth import Authorizer, parse_challenge
from engine.images.certs import hosts
from engine.images.endpoints import endpoints
from engine.images.login import domain_of
from engine.images.reference import Reference
from engine.images.transport import Transport, absolute, check_downgrade, next_page, origin, retry_after
from engine.oci.digest import is_digest
from engine.oci.image import Platform
from tests.fuzz.mutation import FUZZ

PIECES = st.sampled_from(
    ["a", "alpine", "library", "localhost", "docker.io", "[::1]", ":", "::", "/", "//", "@", "@sha256:", "0" * 64, "A" * 64, ".",
     "..", "_", "__", "___", "-", "--", ":5000", "é", "\0", "\n", " ", "x" * 130, "x" * 256, "sha512:", "%2F", "ﬀ", "İ"]
)  # fmt: skip
NAMES = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=8).map("".join))


@FUZZ
@given(NAMES)
def test_references(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(reference.canonical()) == reference
    assert Reference.parse(reference.familiar()) == reference
    assert reference.tag or is_digest(reference.digest or "")
    assert "/" not in (reference.tag or "") and ".." not in reference.path.split("/")
    assert reference.canonical().isascii() and reference.canonical().isprintable()


@FUZZ
@given(NAMES)
def test_servers_and_platforms(text: str) -> None:
    for read in (domain_of, Platform.parse):
        try:
            read(text)
        except UsageError:
            pass


@FUZZ
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(
    ["Bearer", "Basic", " ", ",", "=", '"', "\\", 'realm="https://x/t"', "scope=a:b:c", 'service="s"', "é", "\0"]
), max_size=12).map("".join)))  # fmt: skip
def test_challenges(text: str) -> None:
    for scheme, parameters in parse_challenge(text).items():
        assert scheme == scheme.lower() and all(k == k.lower() for k in parameters)


DATES = st.from_regex(r"\A[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{8} (GMT|[+-][0-9]{4,9})\Z")


@FUZZ
@given(st.one_of(st.text(max_size=40), DATES))
def test_retry_after(text: str) -> None:
    seconds = retry_after(text)
    assert seconds is None or seconds >= 0


VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-5, 10**6),
        st.sampled_from(["pull", "push", "", "a.pem", "https://x", "x y", "\\u0000"]),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
KEYS = st.sampled_from(
    ["server", "capabilities", "ca", "client", "skip_verify", "override_path", "dial_timeout", "unknown"]
)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


@FUZZ
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.dictionaries(KEYS, VALUES, max_size=4), st.sampled_from(
    ["https://m.test", "m.test", "http://[::1", "ftp://m", "", "http://m:99999", "http://u@m"]), st.text(max_size=5))  # fmt: skip
def test_hosts_files(top: dict[str, object], mirror: dict[str, object], url: str, noise: str) -> None:
    lines = [f"{k} = {_toml(v)}" for k, v in top.items()]
    lines += [f'[host."{url}"]', *(f"{k} = {_toml(v)}" for k, v in mirror.items()), noise]
    folder = _folders[-1]
    (folder / "r.test/hosts.toml").write_text("\n".join(lines), errors="surrogatepass")
    try:
        found = hosts("r.test", [str(folder)])
    except UsageError as e:
        assert "hosts.toml" in e.message
        return
    assert found and all(h.root == "" or h.root.startswith(("http://", "https://")) for h in found)


_folders: list[Path] = []


@pytest.fixture(autouse=True, scope="module")
def _directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    _folders.append(tmp_path_factory.mktemp("certs"))
    (_folders[-1] / "r.test").mkdir()


ADDRESSES = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            ["http", "https", "ftp", ":", "//", "[", "]", "[::1]", "@", "a.test", ":99999", ":x", "/p", "?q", "#", " ", "\0"]
        ),
        max_size=7,
    ).map("".join),
)  # fmt: skip


@FUZZ
@given(ADDRESSES, st.sampled_from(["https://r.test/v2", "http://127.0.0.1:1/v2"]))
def test_addresses_that_registries_name(text: str, base: str) -> None:
    """Where a redirect, a token server, a next page, a mirror or an upload is said to be."""
    try:
        check_downgrade(base, absolute(base, text))
        origin(absolute(base, text))
    except RegistryError:
        pass
    next_page(f'<{text}>; rel="next"')
    try:
        endpoints("r.test", {"MINI_REGISTRY_MIRRORS": f"r.test={text}", "MINI_CERTS_D": ""})
    except UsageError:
        pass
    try:
        Authorizer(Transport({"MINI_CERTS_D": ""}), base, "", lambda: None)._check_realm(text)
    except Unauthorized:
        return
    assert text.partition(":")[0].lower() in ("https", "http") and not (text.startswith("http:") and base[4] == "s")
