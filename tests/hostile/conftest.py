"""What was shown, and at which size, in the summary of every run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_SHOWN = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SHOWN] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    shown = config.stash[_SHOWN]
    if shown:
        terminalreporter.section("shown by hostile tests")
        for line in shown:
            terminalreporter.write_line(line)


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Give a function that puts a line with the test's counts into the summary."""
    shown = request.config.stash[_SHOWN]
    return lambda text: shown.append(f"{request.node.name}: {text}")


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder with a short path: that of a Unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="rrh-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
