"""Markers, the session's namespaces, and the fixtures that several suites use."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import isolation, requirements
from tests.support.images import DebianRegistry, Images, Registry
from tests.support.runner import Mini
from tests.support.serve import Serving

# how long an example takes, or its making, says nothing where other test runs take the processor
settings.register_profile("mini", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mini")


def pytest_configure(config: pytest.Config) -> None:
    # a shell without job control starts what is in its background with these ignored, and what tests start would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
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


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Debian's docker-registry where it is installed (in CI it must be), else mini's own, as a process.

    Not as a thread: setns(2) into a time namespace wants a caller with one thread, and tests are such callers.
    """
    directory = str(tmp_path_factory.mktemp("registry"))
    if requirements.missing("docker-registry") and not requirements.is_strict():
        mini = Mini()
        own = Serving(mini, directory)
        yield own
        own.stop()
        mini.close()
        return
    debian = DebianRegistry(directory)
    yield debian
    debian.close()


@pytest.fixture(scope="session")
def images(registry: Registry) -> Images:
    return Images(registry)
