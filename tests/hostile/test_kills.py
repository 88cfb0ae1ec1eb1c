"""Kill the node, and its fork server, whenever it hurts most; nothing accepted is lost, nothing starts twice."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remoterun.client import Node as Client
from remoterun.errors import Busy, Conflict, JobFailed, RemoterunError
from remoterun.failpoints import NAMES, VARIABLE
from remoterun.messages import Job, JobQuery, StateEvent
from remoterun.states import State
from remoterun.testing import NodeDidNotStart, RunningNode, running_node
from tests.hostile.harness import (
    SCRIPTS,
    described,
    dial,
    eventually,
    fork_servers,
    in_background,
    is_sound,
    orphans,
    read_to_end,
    resp,
    sized,
    strays,
    zombies_below,
)

WIRES = ("tcp", "unix", "http", "rpyc", "zmq")
NOTED = ("noted_fork", "noted_fork", "noted_warm", "noted_warm", "noted_spawn", "noted_again", "noted_tree")
FILED = "noted_file"  # takes a file along
LATEST = 0.6  # seconds of load after which a node is killed whose failpoint was not met
SIGKILLED = -9
_HITS = {"store.read": 3, "store.copy": 2, "uploads.write": 2, "uploads.kept": 3}  # of 1 to so many, one kills


class Lane:
    """One data folder, and the nodes that live and die on it one after another."""

    def __init__(self, place: Path, seed: int) -> None:
        self.data = place / "data"
        self.journal = place / "journal"
        self.random = random.Random(seed)
        self.acknowledged: set[str] = set()
        self.keys: dict[str, tuple[str, float]] = {}  # an idempotency key → what was called with it
        self.in_doubt: list[str] = []  # keys whose call had no answer
        self.job_of_key: dict[str, str] = {}
        self.kills: list[datetime] = []
        self.at: Counter[str] = Counter()
        self.stop = threading.Event()

    def node(self, failpoint: str = "") -> Any:
        return running_node(SCRIPTS, data=self.data, env={VARIABLE: failpoint}, workers=3, name="killed")

    def run(self, kills: int) -> None:
        """Kill so many nodes, then look at what they did."""
        points = ["", *sorted(NAMES)]
        while len(self.kills) < kills:
            name = points[len(self.kills) % len(points)]
            self.one_life(name, f"{name}=kill@{self.random.randint(1, _HITS.get(name, 12))}" if name else "")
            if len(self.kills) % 25 == 0:
                self.check_copy()
        self.last_life()

    def one_life(self, name: str, failpoint: str) -> None:
        try:
            with self.node(failpoint) as node:
                assert described(orphans(node)) == [], f"an earlier node's jobs go on; the present one is {node.pid}"
                self.load_until_dead(node)
                assert node.process is not None
                assert node.process.wait(30) == SIGKILLED, node.log()
                self.at[name if time.monotonic() < self.latest else "random"] += 1
        except NodeDidNotStart as error:
            if error.exit_code != SIGKILLED:
                raise
            self.at[name] += 1
        self.kills.append(datetime.now(UTC))

    def load_until_dead(self, node: RunningNode) -> None:
        self.stop.clear()
        self.latest = time.monotonic() + self.random.uniform(0.05, LATEST)
        with in_background(*(lambda wire=wire: self.load(node, wire) for wire in WIRES)):
            assert node.process is not None
            while node.process.poll() is None and time.monotonic() < self.latest:
                time.sleep(0.005)
            node.kill()
            self.stop.set()

    def load(self, node: RunningNode, wire: str) -> None:
        """Call as callers do, until the node is gone."""
        try:
            with node.connect(wire, node.token) as client:  # a key is one principal's
                for key in self.take_doubts(wire):
                    self.call_with_key(client, key)
                while not self.stop.is_set():
                    self.call(client)
        except RemoterunError:
            return

    def take_doubts(self, wire: str) -> list[str]:
        mine = [key for key in self.in_doubt if key.startswith(wire) or self.stop.is_set()]
        self.in_doubt = [key for key in self.in_doubt if key not in mine]
        return mine

    def call(self, client: Client) -> None:
        script = self.random.choice((*NOTED, FILED, FILED))
        work = self.random.choice((0.0, 0.0, 0.02, 0.3))
        params = self.params(script, work)
        kind = self.random.random()
        try:
            if kind < 0.06:
                client.session.backup()
            elif kind < 0.5:
                self.acknowledged.add(client.submit(script, **params).id)
            elif kind < 0.7:
                client.run(script, **params)
            else:
                key = f"{self.random.choice(WIRES)} {uuid.uuid4()}"
                self.keys[key] = script, work
                self.call_with_key(client, key)
        except Busy:
            time.sleep(0.05)
        except Conflict:
            pass  # another caller's backup is being made
        except JobFailed as failure:
            if failure.job.state is not State.LOST:
                raise
        self.pause(client)

    def params(self, script: str, work: float) -> dict[str, Any]:
        noted = {"journal": str(self.journal), "work": work}
        return noted if script != FILED else {**noted, "file": io.BytesIO(bytes(100_000))}

    def pause(self, client: Client) -> None:
        """Let jobs run too: two cores serve the nodes, their jobs and this load."""
        if client.info().load.queued > 50:
            time.sleep(0.1)

    def call_with_key(self, client: Client, key: str) -> None:
        script, work = self.keys[key]
        try:
            job = client.script(script, key=key).submit(**self.params(script, work)).job
        except RemoterunError:
            self.in_doubt.append(key)
            raise
        assert self.job_of_key.setdefault(key, job.id) == job.id, "one key was two jobs"
        self.acknowledged.add(job.id)

    def check_copy(self) -> None:
        copy = self.data.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in self.data.glob("remoterun.sqlite3*"):
            shutil.copy(file, copy)
        assert is_sound(copy)

    def last_life(self) -> None:
        """Let everything come to its end, and compare what was promised with what there is."""
        with self.node() as node, node.connect("unix", node.token) as client:
            for key in list(self.in_doubt):
                self.call_with_key(client, key)
            eventually(lambda: _unfinished(client) == 0, "every job ends", 120)
            assert orphans(node) == []
            eventually(lambda: strays(node) == [], "nothing is left of the jobs")
            self.check(client)
            assert node.stop() == 0
        assert is_sound(self.data)
        backups = sorted((self.data / "backups").glob("[0-9]*"))
        assert all(is_sound(backup) for backup in backups)
        assert backups, "one was made between two kills"

    def check(self, client: Client) -> None:
        self.jobs = {job.id: job for job in _all_jobs(client)}
        starts = Counter(tuple(line.split()[:2]) for line in self.journal.read_text().splitlines())
        assert [start for start, count in starts.items() if count > 1] == [], "started twice"
        assert self.acknowledged <= self.jobs.keys(), "acknowledged and gone"
        keys = Counter(job.key for job in self.jobs.values() if job.key is not None)
        assert [key for key, count in keys.items() if count > 1] == [], "a key is two jobs"
        for job in self.jobs.values():
            assert job.has_ended, job
            self.check_job(job, starts)
        for job_id in self.acknowledged:
            _check_events(client, self.jobs[job_id])

    def check_job(self, job: Job, starts: Counter[tuple[str, ...]]) -> None:
        started = sorted(int(attempt) for (job_id, attempt) in starts if job_id == job.id) if job.attempt > 1 else []
        if job.state is State.SUCCEEDED:
            assert starts[job.id, str(job.attempt)] == 1, "succeeded and never started"
        else:
            assert job.state is State.LOST, job
            assert job.started is not None
            assert job.ended is not None
            assert any(job.started <= kill <= job.ended for kill in self.kills), "lost without a kill"
        assert job.attempt == 1 or job.script == "noted_again", "started again unasked"
        assert all(attempt <= job.attempt for attempt in started)


def _unfinished(client: Client) -> int:
    load = client.info().load
    pages = [client.session.list_jobs(JobQuery(state=state, limit=1)) for state in (State.QUEUED, State.RUNNING)]
    return load.queued + load.running + sum(len(page.jobs) for page in pages)


def _all_jobs(client: Client) -> list[Job]:
    jobs: list[Job] = []
    before = None
    while True:
        page = client.session.list_jobs(JobQuery(before=before, limit=1000))
        jobs += page.jobs
        before = page.next
        if before is None:
            return jobs


def _check_events(client: Client, job: Job) -> None:
    events = list(client.session.events(job.id))
    assert [event.n for event in events] == list(range(1, len(events) + 1)), "the log has gaps"
    finals = [event for event in events if isinstance(event, StateEvent) and event.final]
    assert finals == events[-1:], "the final event is the last one, and one"
    assert finals[0].state is job.state


@pytest.mark.timeout(900)
def test_killed_nodes_lose_nothing_and_start_nothing_twice(place: Path, show: Callable[[str], None]) -> None:
    lanes = [Lane(place / f"{number}", number) for number in range(2)]
    for lane in lanes:
        lane.data.parent.mkdir()
    kills = sized(300) // 2

    with in_background(*(lambda lane=lane: lane.run(kills) for lane in lanes)):
        pass

    at = sum((lane.at for lane in lanes), Counter())
    jobs = [job for lane in lanes for job in lane.jobs.values()]
    assert at.keys() >= NAMES, "every failpoint has killed"
    show(
        f"{sum(len(lane.kills) for lane in lanes)} kills ({dict(at)}), {len(jobs)} jobs, "
        f"{sum(len(lane.acknowledged) for lane in lanes)} acknowledged, {sum(len(lane.keys) for lane in lanes)} keys, "
        f"{sum(job.state is State.LOST for job in jobs)} lost, {sum(job.attempt > 1 for job in jobs)} started again"
    )


def test_queued_jobs_survive_a_kill(place: Path, show: Callable[[str], None]) -> None:
    count, gate = sized(10_000), place / "gate"
    settings: dict[str, Any] = {"data": place / "data", "workers": 1, "queue": 2 * count}
    with running_node(SCRIPTS, **settings) as node:
        with node.connect() as client, dial(node, "unix") as wire:
            client.submit("gated", gate=str(gate))
            ids = _submit_many(wire, count)
            assert len(set(ids)) == count
            node.kill()
        node.start()
        with node.connect() as client:
            assert {*ids} <= {job.id for job in _all_jobs(client)}
            gate.touch()
            eventually(lambda: _unfinished(client) == 0, "every job ends", 100)
            jobs = {job.id: job for job in _all_jobs(client)}
            assert [jobs[job_id].state for job_id in ids] == [State.SUCCEEDED] * count
            assert {jobs[job_id].attempt for job_id in ids} == {1}
    show(f"{count} queued jobs, all there after the kill, all succeeded")


def _submit_many(wire: Any, count: int) -> list[str]:
    """Submit in a pipeline, and give the ids."""

    def send() -> None:
        for _ in range(count):
            wire.sendall(resp("SUBMIT", "hello"))
        wire.sendall(resp("QUIT"))

    with in_background(send):
        replies = read_to_end(wire).split(b"\r\n")
    return [reply.decode() for reply in replies if len(reply) == 36]


def _kill_a_fork_server(node: RunningNode, ended: Counter[State]) -> None:
    before = ended.total()
    eventually(lambda: ended.total() > before, "jobs end")
    server = eventually(lambda: fork_servers(node), "there is a fork server")[0]
    os.kill(server, signal.SIGKILL)
    eventually(lambda: server not in fork_servers(node), "the node notices")


def test_a_killed_fork_server_costs_only_what_ran(place: Path, show: Callable[[str], None]) -> None:
    kills, journal = sized(10), place / "journal"
    ended: Counter[State] = Counter()
    failures: list[Job] = []
    stop = threading.Event()
    with running_node(SCRIPTS, data=place / "data", workers=3) as node:

        def call(wire: str) -> None:
            with node.connect(wire) as client:
                while not stop.is_set():
                    handles = [
                        client.submit(script, journal=str(journal), work=0.05) for script in dict.fromkeys(NOTED)
                    ]
                    jobs = [handle.wait() for handle in handles]
                    ended.update(job.state for job in jobs)
                    failures.extend(job for job in jobs if job.state not in (State.SUCCEEDED, State.LOST))

        def kill() -> None:
            try:
                for _ in range(kills):
                    _kill_a_fork_server(node, ended)
            finally:
                stop.set()

        with in_background(kill, *(lambda wire=wire: call(wire) for wire in WIRES)):
            pass
        eventually(lambda: strays(node) == [], "no orphan is left")
        eventually(lambda: zombies_below(node.pid) == [], "no zombie is left")
        with node.connect() as client:
            assert client.run("hello", name="Ada") == {"hello": "Ada"}
            assert _unfinished(client) == 0
    assert failures == []
    assert ended[State.LOST] > 0
    starts = Counter(tuple(line.split()[:2]) for line in journal.read_text().splitlines())
    assert max(starts.values()) == 1
    show(f"{kills} kills of the fork server, jobs: {dict(ended)}")
