"""A node, and each front before it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from remoterun.testing import RunningNode, running_node
from tests.deployments.callers import Caller
from tests.deployments.certificate import write_certificate
from tests.deployments.front import LARGEST, Front, Place
from tests.deployments.fronts import FRONTS

SCRIPTS = Path(__file__).parent / "scripts"


def require(kind: type[Front]) -> None:
    """Skip where a front's programs are missing, but fail where CI runs."""
    missing = kind.missing()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"{missing} is missing, and CI must have it")
    if missing:
        pytest.skip(f"{missing} is not installed; make test, as root, installs what is missing")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give a folder with a short path: that of a Unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="rrd-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[RunningNode]:
    limits, off = {"request": LARGEST}, {"enabled": False}
    with running_node(SCRIPTS, data=folder / "data", workers=8, grace="500ms", limits=limits, http=off) as running:
        yield running


@pytest.fixture(scope="module", params=FRONTS, ids=lambda kind: kind.folder)
def front(request: pytest.FixtureRequest, node: RunningNode, folder: Path) -> Iterator[Front]:
    kind: type[Front] = request.param
    require(kind)
    own = folder / kind.folder
    own.mkdir()
    certificate, key = write_certificate(own)
    standing = kind(Place(own, node.urls["unix"], certificate, key))
    try:
        standing.start()
        yield standing
    finally:
        standing.stop()


@pytest.fixture
def caller(front: Front, node: RunningNode) -> Iterator[Caller]:
    with Caller(front, node.token) as calling:
        yield calling
