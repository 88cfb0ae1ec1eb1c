"""Many callers at one gevent worker, where the application's event loop is a greenlet among theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from remoterun.testing import RunningNode
from tests.deployments.callers import Caller, is_final
from tests.deployments.certificate import write_certificate
from tests.deployments.conftest import require
from tests.deployments.front import Front, Place
from tests.deployments.fronts.gunicorn_gevent import GunicornGevent

_FOLLOWERS = 100


@pytest.fixture(scope="module")
def front(node: RunningNode, folder: Path) -> Iterator[Front]:
    require(GunicornGevent)
    own = folder / "own"
    own.mkdir()
    standing = GunicornGevent(Place(own, node.urls["unix"], *write_certificate(own), processes=1))
    try:
        standing.start()
        yield standing
    finally:
        standing.stop()


def test_many_follow_and_others_call_meanwhile(front: Front, caller: Caller, node: RunningNode, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = caller.submit("gated", gate=str(gate))
    with contextlib.ExitStack() as stack:
        streams = []
        for _ in range(_FOLLOWERS):
            follower = stack.enter_context(Caller(front, node.token))
            streams.append(stack.enter_context(follower.following(job)))
        assert [next(stream).n for stream in streams] == [1] * _FOLLOWERS
        assert caller.http.post("/run/hello", json={"name": "Ada"}).json() == {"hello": "Ada"}
        gate.touch()
        assert all(is_final(list(stream)[-1]) for stream in streams)
