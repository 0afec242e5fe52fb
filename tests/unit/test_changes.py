"""--change: Dockerfile instructions, as Docker reads them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import UsageError
from engine.images.changes import apply_changes

BASE = {"Env": ["PATH=/bin", "HOME=/root"], "Cmd": ["old"], "WorkingDir": "/srv", "Labels": {"a": "1"}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["sh", "-c", "echo $HOME"]', {"Cmd": ["sh", "-c", "echo $HOME"]}),
        ("cmd echo $HOME", {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        ("CMD ['sh']", {"Cmd": ["/bin/sh", "-c", "['sh']"]}),
        ("CMD []", {"Cmd": []}),
        ('ENTRYPOINT ["/init"]', {"Entrypoint": ["/init"]}),
        ("ENV A=1", {"Env": ["PATH=/bin", "HOME=/root", "A=1"]}),
        ("ENV PATH=/usr/bin:$PATH B='x  y' C=\"$HOME\\\"\" D=a\\ b", {
            "Env": ["PATH=/usr/bin:/bin", "HOME=/root", "B=x  y", 'C=/root"', "D=a b"],
        }),
        ("ENV A the rest = of the line", {"Env": ["PATH=/bin", "HOME=/root", "A=the rest = of the line"]}),
        ("ENV A=${HOME:-x}${NONE:-y}${HOME:+z}${NONE:+w}$NONE'$HOME'\\$HOME", {
            "Env": ["PATH=/bin", "HOME=/root", "A=/rootyz$HOME$HOME"],
        }),
        ("LABEL b=2 \"c d\"='e f'", {"Labels": {"a": "1", "b": "2", "c d": "e f"}}),
        ("EXPOSE 80 53/udp 8000-8002", {
            "ExposedPorts": {f"{p}": {} for p in ("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp")},
        }),
        ('VOLUME ["/data", "/b c"]', {"Volumes": {"/data": {}, "/b c": {}}}),
        ("VOLUME /data $HOME/x", {"Volumes": {"/data": {}, "/root/x": {}}}),
        ("USER 1000:users", {"User": "1000:users"}),
        ("WORKDIR sub/../app", {"WorkingDir": "/srv/app"}),
        ("WORKDIR $HOME", {"WorkingDir": "/root"}),
        ("STOPSIGNAL SIGQUIT", {"StopSignal": "SIGQUIT"}),
        ("ONBUILD RUN make", {"OnBuild": ["RUN make"]}),
        ("HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f localhost", {
            "Healthcheck": {
                "Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 90_000_000_000, "Timeout": 500_000_000, "Retries": 3,
            },
        }),
        ('HEALTHCHECK CMD ["true"]', {"Healthcheck": {"Test": ["CMD", "true"]}}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        ("# a comment\nUSER a\n\nUSER \\\n  b", {"User": "b"}),
        ("", {}),
    ],
)  # fmt: skip
def test_instructions(change: str, expected: dict[str, Any]) -> None:
    before = {key: (list(value) if isinstance(value, list) else value) for key, value in BASE.items()}
    assert apply_changes(BASE, [change]) == BASE | expected
    assert before == BASE


def test_one_after_the_other() -> None:
    assert apply_changes({}, ["ENV A=1", "ENV B=$A A=2 C=$A", "ENV D=$A"]) == {"Env": ["A=2", "B=1", "C=1", "D=2"]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("RUN true", "run is not a valid change command"),
        ("FROM x", "from is not a valid change command"),
        ("nonsense", "nonsense is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find = in 'B'"),
        ("ENV =1", "ENV names can not be blank"),
        ("ENV A='b", "looking for matching '"),
        ("ENV A=${B", "syntax error"),
        ("ENV A=${B%x}", "unsupported modifier"),
        ("EXPOSE 0", "invalid containerPort: 0"),
        ("EXPOSE 90-80", "invalid containerPort"),
        ("EXPOSE 80/icmp", "invalid containerPort"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("HEALTHCHECK curl", "unknown type 'curl' in HEALTHCHECK"),
        ("HEALTHCHECK --interval=5 CMD x", "invalid duration '5'"),
        ("HEALTHCHECK --often CMD x", "unknown flag: --often"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
    ],
)
def test_what_is_refused(change: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        apply_changes({}, [change])
    assert text in caught.value.message
