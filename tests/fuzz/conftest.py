"""MINI_FUZZ_EXAMPLES: then without pytest's time limit."""

from __future__ import annotations

import os

import pytest

from tests.fuzz.mutation import EXAMPLES

_HERE = os.path.dirname(__file__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if EXAMPLES:
        for item in items:
            if str(item.path).startswith(_HERE):
                item.add_marker(pytest.mark.timeout(0))
