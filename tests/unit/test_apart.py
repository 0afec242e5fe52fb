"""Work in a process of its own: done once, its errors told here, and nothing of its imports left."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from engine.errors import Conflict, RuntimeFault
from engine.runtime import apart


def test_is_done_elsewhere(tmp_path: Path) -> None:
    def work() -> None:
        import this  # noqa: F401

        (tmp_path / "pid").write_text(str(os.getpid()))

    apart.run(work)
    assert int((tmp_path / "pid").read_text()) != os.getpid()
    assert "this" not in sys.modules


def test_an_error_comes_back_as_it_was() -> None:
    def work() -> None:
        raise Conflict("taken", "choose another")

    with pytest.raises(Conflict, match="taken") as caught:
        apart.run(work)
    assert caught.value.hint == "choose another"


def test_a_bug_comes_back_with_its_kind() -> None:
    with pytest.raises(RuntimeFault, match="ZeroDivisionError"):
        apart.run(lambda: 1 // 0)


def test_a_killed_one_is_told_of() -> None:
    with pytest.raises(RuntimeFault, match="killed"):
        apart.run(lambda: os.kill(os.getpid(), signal.SIGKILL))
