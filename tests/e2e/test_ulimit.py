"""Resource limits, down to those that leave no descriptor for mini itself."""

from __future__ import annotations

import pytest

from tests.support.images import Image
from tests.support.runner import Mini

pytestmark = pytest.mark.requires("root", "linux", "netns")


def test_limits_hold_in_run_and_exec(mini: Mini, host_image: Image) -> None:
    mini.run("pull", "-q", host_image.name)
    show = "ulimit -Sn; ulimit -Hn; ulimit -c"
    limits = ["--ulimit", "nofile=4:20", "--ulimit", "core=0"]
    assert mini.run("run", "--rm", *limits, host_image.name, "sh", "-c", show).lines == ["4", "20", "0"]
    assert mini.run("run", "--rm", "-u", "1234", *limits, host_image.name, "sh", "-c", show).lines == ["4", "20", "0"]
    container = mini.detached(*limits, "--security-opt", "no-new-privileges", host_image.name, "sleep", "60")
    assert mini.run("exec", container, "sh", "-c", show).lines == ["4", "20", "0"]


def test_a_limit_that_cannot_be_raised_is_an_error_that_says_so(mini: Mini, host_image: Image) -> None:
    mini.run("pull", "-q", host_image.name)
    done = mini.run("run", "--rm", "--ulimit", "nofile=5:4", host_image.name, "true", check=False)
    assert done.code == 125
    assert "ulimit soft limit must be less than or equal to hard limit" in done.stderr
