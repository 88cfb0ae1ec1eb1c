"""A rolling restart under load, as each front's page describes it: new processes answer before old ones go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.messages import OutputEvent, StateEvent
from remoterun.service import Token
from remoterun.testing import RunningNode
from remoterun.transport import Target
from tests.deployments.callers import Caller
from tests.deployments.front import DEPLOY, Front
from tests.deployments.fronts import FRONTS
from tests.deployments.programs import PATIENCE, eventually

_CALLERS = 6


@dataclass
class Load:
    """What callers got."""

    answers: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def await_more(self) -> None:
        """Wait until calls have been answered."""
        count = len(self.answers)
        eventually(lambda: len(self.answers) > count + 50, "calls are answered")


@contextmanager
def load(front: Front, node: RunningNode) -> Iterator[Load]:
    """Keep calling for the time of a `with` block: callers with a connection kept, half of them with pauses."""
    got, stop = Load(), threading.Event()

    def call(pause: float) -> None:
        with Caller(front, node.token) as caller:
            while not stop.wait(pause):
                try:
                    got.answers.append(caller.http.post("/run/hello", json={"name": "Ada"}).status_code)
                except httpx2.HTTPError as error:
                    got.broken.append(repr(error))

    threads = [threading.Thread(target=call, args=(0.05 * (n % 2),)) for n in range(_CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield got
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)


@pytest.mark.parametrize("front", [kind for kind in FRONTS if kind.rolls], ids=lambda kind: kind.folder, indirect=True)
def test_a_rolling_restart_fails_no_request(front: Front, node: RunningNode) -> None:
    with load(front, node) as got:
        got.await_more()
        front.reload()
        got.await_more()
    assert got.broken == []
    assert {*got.answers} == {200}


def test_a_follower_misses_nothing_of_a_rolling_restart(front: Front, node: RunningNode, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    ca_file = str(front.place.certificate) if front.is_tls else None
    with Client(*open_session(Target(front.url, ca_file=ca_file), Token(node.token))) as client:
        job = client.submit("gated", gate=str(gate))
        events = job.events()
        seen = [next(events)]
        while not isinstance(seen[-1], OutputEvent):
            seen.append(next(events))
        front.reload()
        gate.touch()
        seen += events
    assert [event.n for event in seen] == list(range(1, len(seen) + 1))
    assert isinstance(seen[-1], StateEvent)
    assert seen[-1].final


@pytest.mark.parametrize("kind", FRONTS, ids=lambda kind: kind.folder)
def test_its_page_tells_how_to_restart_it(kind: type[Front]) -> None:
    page = (DEPLOY / kind.folder / "README.md").read_text()
    assert "## Rolling restart" in page
    assert ("fails no call" in page) is kind.rolls
