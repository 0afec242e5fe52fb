"""Commands that take several names: the order of what is said, whatever the order in which it is done."""

from __future__ import annotations

import threading

import pytest

from engine.cli.each import each
from engine.errors import Conflict, NotFound

NAMES = ["a", "b", "c"]


@pytest.mark.parametrize("at_once", [False, True])
def test_every_name_is_tried_and_what_is_said_keeps_their_order(
    at_once: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(name: str) -> None:
        if name == "b":
            raise Conflict("b is busy", "wait")

    assert each(NAMES, act, echo=True, at_once=at_once) == 1
    assert capsys.readouterr() == ("a\nc\n", "mini: b is busy\n  wait\n")


@pytest.mark.parametrize("at_once", [False, True])
def test_a_forgiven_error_is_said_and_not_counted(at_once: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def act(name: str) -> None:
        raise NotFound(f"no {name}")

    assert each(NAMES, act, forgiven=NotFound, at_once=at_once) == 0
    assert capsys.readouterr().err == "mini: no a\nmini: no b\nmini: no c\n"


def test_at_once_none_waits_for_another_and_the_last_may_end_first(capsys: pytest.CaptureFixture[str]) -> None:
    ended = {name: threading.Event() for name in [*NAMES, "d"]}

    def act(name: str) -> None:
        following = chr(ord(name) + 1)
        assert name == "c" or ended[following].wait(60)
        ended[name].set()

    assert each(NAMES, act, echo=True, at_once=True) == 0
    assert capsys.readouterr().out == "a\nb\nc\n"


def test_more_than_are_done_at_once() -> None:
    done: list[str] = []
    names = [str(number) for number in range(120)]
    assert each(names, done.append, at_once=True) == 0
    assert sorted(done) == sorted(names)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_bug_is_raised(at_once: bool) -> None:
    def act(name: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        each(NAMES, act, at_once=at_once)
