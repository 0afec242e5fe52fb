"""References: the table of what Docker reads, and Docker's words for what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidReference
from engine.images.reference import Reference, is_path, is_tag

HEX = "dbcc1c35ac38df41fd2f5e4130b32ffdb93ebae8b3dbe638c23575912276fc9c"
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest", "familiar"),
    [
        ("alpine", "docker.io", "library/alpine", "latest", None, "alpine:latest"),
        ("alpine:3.20", "docker.io", "library/alpine", "3.20", None, "alpine:3.20"),
        ("user/app", "docker.io", "user/app", "latest", None, "user/app:latest"),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest", None, "alpine:latest"),
        ("index.docker.io/library/alpine:1", "docker.io", "library/alpine", "1", None, "alpine:1"),
        ("library/foo/bar", "docker.io", "library/foo/bar", "latest", None, "library/foo/bar:latest"),
        ("localhost/x", "localhost", "x", "latest", None, "localhost/x:latest"),
        ("localhost:5000/a/b:t", "localhost:5000", "a/b", "t", None, "localhost:5000/a/b:t"),
        ("Foo/bar", "Foo", "bar", "latest", None, "Foo/bar:latest"),
        ("test.com:5000", "docker.io", "library/test.com", "5000", None, "test.com:5000"),
        ("[::1]:5000/x", "[::1]:5000", "x", "latest", None, "[::1]:5000/x:latest"),
        ("[2001:db8::1]/x:y", "[2001:db8::1]", "x", "y", None, "[2001:db8::1]/x:y"),
        ("xn--n3h.com/my-image:xn--n3h.com", "xn--n3h.com", "my-image", "xn--n3h.com", None, None),
        ("dock__er/a---b", "docker.io", "dock__er/a---b", "latest", None, None),
        ("a:Tag_-.1", "docker.io", "library/a", "Tag_-.1", None, None),
        (f"alpine@{DIGEST}", "docker.io", "library/alpine", None, DIGEST, f"alpine@{DIGEST}"),
        (f"h:1/a:t@{DIGEST}", "h:1", "a", "t", DIGEST, f"h:1/a:t@{DIGEST}"),
        (f"docker.io/{HEX}", "docker.io", f"library/{HEX}", "latest", None, f"{HEX}:latest"),
        (HEX[:63], "docker.io", f"library/{HEX[:63]}", "latest", None, None),
        ("x.y/" + "a/" * 127 + "a", "x.y", "a/" * 127 + "a", "latest", None, None),
    ],
)
def test_is_read_as_docker_reads_it(
    text: str, domain: str, path: str, tag: str | None, digest: str | None, familiar: str | None
) -> None:
    reference = Reference.parse(text)
    assert (reference.domain, reference.path, reference.tag, reference.digest) == (domain, path, tag, digest)
    if familiar:
        assert reference.familiar() == familiar
    assert Reference.parse(reference.familiar()) == reference
    assert Reference.parse(reference.canonical()) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("docker.io/docker/Docker", "invalid reference format: repository name (docker/Docker) must be lowercase"),
        ("h:5000/Upper/lower:t", "invalid reference format: repository name (Upper/lower) must be lowercase"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
        ("a/" * 128 + "a:tag", "repository name must not be more than 255 characters"),
        (f"a@sha512:{HEX * 2}", "unsupported digest algorithm: sha512"),
        (f"a@sha256:{HEX[:-2]}", f"invalid checksum digest length: sha256:{HEX[:-2]}"),
        (f"a@sha256:{HEX.upper()}", f"invalid checksum digest format: sha256:{HEX.upper()}"),
        *(
            (text, "invalid reference format")
            for text in (
                "", ":tag", "a:", "a:t:t", f"@{DIGEST}", "a@", "a@sha256:abc", "-a", "a/", "/a", "a//b", "a/-b", "a/b-",
                "aa/asdf$$^/aa", "dock..er/a", "dock_.er/a", "dock___er/a", "https://x.y/z", "[fc00::1]", "fc00::1:5000/a",
                "[fe80::1%eth0]:5000/a", "h:/a", "h:x/a", "h:1:2/a", "-h.com/a", "h_.com:1/a", "a\n", "a b", "a:" + "t" * 129,
                "a:-t", "a:é", "é", "x.y/../z", "x.y/a/../../z", "a:../t",
            )
        ),
    ],
)  # fmt: skip
def test_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidReference) as error:
        Reference.parse(text)
    assert error.value.message == message


@given(st.text(alphabet="aZ0._-:/@[]% é\n", max_size=40) | st.text(max_size=20))
def test_any_text_is_a_reference_or_an_invalid_one(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(reference.canonical()) == reference
    assert is_path(reference.path) and ".." not in reference.path.split("/")
    assert reference.tag is None or is_tag(reference.tag)


def test_with_digest_drops_the_tag() -> None:
    assert Reference.parse("alpine:3").with_digest(DIGEST).canonical() == f"docker.io/library/alpine@{DIGEST}"
