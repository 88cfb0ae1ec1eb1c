"""A backup taken under load restores to a consistent node."""

from __future__ import annotations

import io
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from remoterun.client import Node as Client
from remoterun.errors import Busy
from remoterun.messages import Job, JobQuery, StateEvent
from remoterun.states import State
from remoterun.testing import running_node
from tests.hostile.harness import SCRIPTS, eventually, in_background, is_sound, sized

WIRES = ("tcp", "unix", "http", "rpyc", "zmq")


class Load:
    """Callers that submit until they are told to stop, and what was acknowledged."""

    def __init__(self, journal: Path) -> None:
        self.acknowledged: list[str] = []
        self.stop = threading.Event()
        self._journal = str(journal)

    def await_acknowledged(self, count: int) -> None:
        """Wait until so many jobs were acknowledged."""
        eventually(lambda: len(self.acknowledged) > count, "it serves")

    def call(self, client: Client) -> None:
        """Submit jobs with a file, with output, with a pause, again and again."""
        while not self.stop.is_set():
            try:
                self.acknowledged.append(client.submit("hello", name="Ada").id)
                file = io.BytesIO(bytes(100_000))
                self.acknowledged.append(client.submit("noted_file", journal=self._journal, file=file).id)
                client.run("hello")
            except Busy:
                self.stop.wait(0.05)


def test_backups_under_load_restore_to_consistent_nodes(place: Path, show: Callable[[str], None]) -> None:
    count, load = sized(3), Load(place / "journal")
    before: list[set[str]] = []
    copies: list[Path] = []
    with running_node(SCRIPTS, data=place / "data", workers=2) as node:

        def call(wire: str) -> None:
            with node.connect(wire, node.token) as client:
                load.call(client)

        with in_background(*(lambda wire=wire: call(wire) for wire in WIRES)):
            try:
                with node.connect() as client:
                    for number in range(count):
                        load.await_acknowledged(100 * (number + 1))
                        before.append({*load.acknowledged})
                        made = client.session.backup()
                        copies.append(Path(shutil.copytree(made.path, place / f"copy{number}")))
            finally:
                load.stop.set()

    ended: Counter[State] = Counter()
    for acknowledged, copy in zip(before, copies, strict=True):
        assert is_sound(copy)
        with running_node(SCRIPTS, data=copy, workers=2) as node, node.connect() as client:
            await_end(client)
            jobs = {job.id: job for job in client.jobs()}
            assert acknowledged <= jobs.keys()
            for job in jobs.values():
                ended[job.state] += 1
                check(client, job)
    assert ended.keys() <= {State.SUCCEEDED, State.LOST}
    show(f"{count} backups, {sum(map(len, before))} jobs acknowledged before them, in the copies: {dict(ended)}")


def await_end(client: Client) -> None:
    """Wait until every job has ended."""

    def unfinished() -> bool:
        queries = [JobQuery(state=state, limit=1) for state in (State.QUEUED, State.RUNNING)]
        return any(client.session.list_jobs(query).jobs for query in queries)

    eventually(lambda: not unfinished(), "every job ends", 100)


def check(client: Client, job: Job) -> None:
    """Hold that a job has ended, its log is whole, and `lost` is only what had started."""
    events = list(client.session.events(job.id))
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    finals = [event for event in events if isinstance(event, StateEvent) and event.final]
    assert finals == events[-1:]
    assert finals[0].state is job.state
    assert job.state is State.SUCCEEDED or job.started is not None
