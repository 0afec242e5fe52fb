"""Markers, the session's namespaces, and the fixtures that several suites use."""

from __future__ import annotations

import pytest

from tests.support import isolation, requirements


def pytest_configure(config: pytest.Config) -> None:
    isolation.isolate()
    requirements.missing("netns")  # answered, and remembered, before a test adds links


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        for what in mark.args:
            reason = requirements.missing(what)
            if reason is None:
                continue
            if requirements.is_strict() and what not in requirements.OPTIONAL:
                pytest.fail(f"MINI_TEST_STRICT: {reason}", pytrace=False)
            pytest.skip(reason)
