"""SIGTERM under load: what was accepted has finished, or is queued and finishes after the next start."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remoterun.errors import JobFailed, RemoterunError, ServiceError
from remoterun.states import FINAL, State
from remoterun.testing import RunningNode, running_node
from tests.hostile.harness import SCRIPTS, carriers, eventually, in_background, is_sound, run_folder, sized

WIRES = ("tcp", "unix", "http", "rpyc", "zmq")


class Load:
    """Callers that submit and run until the node is gone."""

    def __init__(self, node: RunningNode, journal: Path) -> None:
        self._node = node
        self._journal = str(journal)
        self.acknowledged: set[str] = set()
        self.answered = 0
        self.refused: Counter[str] = Counter()

    def await_served(self) -> None:
        eventually(lambda: self.answered > 10, "it serves")

    def call(self, wire: str) -> None:
        try:
            with self._node.connect(wire) as client:
                while True:
                    try:
                        self.acknowledged.add(client.submit("noted_fork", journal=self._journal, work=0.05).id)
                        client.run("noted_warm", journal=self._journal)
                        self.answered += 1
                    except JobFailed as failure:
                        self.refused[failure.job.state] += 1
                    except ServiceError as failure:
                        self.refused[failure.code] += 1
                        if "stopping" not in failure.message:
                            return
                        time.sleep(0.005)
        except RemoterunError:
            return


@pytest.mark.parametrize("wire", WIRES)
def test_stop_under_load(wire: str, place: Path, show: Callable[[str], None]) -> None:
    stops, journal = sized(3), place / "journal"
    acknowledged: set[str] = set()
    seen: Counter[str] = Counter()
    with running_node(SCRIPTS, data=place / "data", workers=2) as node:
        for _ in range(stops):
            load = Load(node, journal)
            with in_background(*[lambda load=load: load.call(wire)] * 4):
                load.await_served()
                assert node.stop() == 0, node.log()
            acknowledged |= load.acknowledged
            seen += load.refused
            assert carriers(run_folder(node)) == [], "a job outlives its node"
            assert is_sound(node.data)
            node.start()
            with node.connect() as client:
                states = {job.id: job.state for job in client.jobs()}
                assert acknowledged <= states.keys()
        with node.connect() as client:
            ends = Counter(client.session.wait(job_id, 60).state for job_id in acknowledged)
        assert node.stop() == 0
    assert ends.keys() <= {State.SUCCEEDED}, ends
    assert seen.keys() <= {"unavailable"}, seen
    starts = Counter(line.split()[0] for line in journal.read_text().splitlines())
    assert all(starts[job_id] == 1 for job_id in acknowledged)
    show(f"{stops} stops under load over {wire}: {len(acknowledged)} accepted jobs, all succeeded, none started twice")


def test_stop_with_jobs_that_do_not_end(place: Path) -> None:
    """Given jobs that ignore SIGTERM, a stopping node ends them and says that they were lost."""
    settings: dict[str, Any] = {"grace": "500ms", "cancel_grace": "300ms", "workers": 4}
    with running_node(SCRIPTS, data=place / "data", **settings) as node:
        with node.connect() as client:
            jobs = [client.submit("tree_fork", kind="deaf", pids=str(place / f"{number}")) for number in range(3)]
            for job in jobs:
                next(event for event in job.events() if event.n >= 3)
            queued = [client.submit("tree_spawn", kind="deaf", pids=str(place / f"q{number}")) for number in range(3)]
        assert node.stop() == 0
        assert carriers(run_folder(node)) == []
        node.start()
        with node.connect() as client:
            assert [client.session.get_job(job.id).state for job in jobs] == [State.LOST] * 3
            for job in queued:
                assert client.session.cancel(job.id).state in FINAL
