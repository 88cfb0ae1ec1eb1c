"""A real RabbitMQ that fails in every way under load, and nodes that die behind it: nothing lost, nothing run twice."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest

from remoterun.messages import Job
from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from tests.brokers.rabbitmq import RabbitMQ
from tests.hostile.harness import SCRIPTS, carriers, eventually, in_background, run_folder, sized

JOBS, DEAD = "remoterun.jobs", "remoterun.dead"
PATIENCE = 120.0  # seconds until all is well again on a loaded machine; what is seen is shown
_SCRIPTS = ("noted_fork", "noted_warm", "noted_warm")


def node_at(url: str, place: Path, **settings: Any) -> Any:
    chosen: dict[str, Any] = {
        "rabbitmq": {"url": url, "principal": "publisher", "prefetch": 20, "attempts": 1000},
        "principals": {"publisher": {"scopes": ["run", "read"]}},
        "workers": 2,
        "http": {"enabled": False},
        **settings,
    }
    return running_node(SCRIPTS, data=place / "data", **chosen)


class Load:
    """A publisher that knows which of its messages the broker has confirmed; it repeats what was not."""

    def __init__(self, broker: RabbitMQ, place: Path) -> None:
        self._broker = broker
        self._journal = place / "journal"
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._idle = threading.Event()
        self.confirmed: set[str] = set()
        self.repeated = 0

    def run(self) -> None:
        """Publish until told to stop."""
        key = self._next_key()
        while not self._stop.is_set():
            with contextlib.suppress(pika.exceptions.AMQPError, OSError), self._broker.channel() as channel:
                while not self._stop.is_set():
                    if not self._go.is_set():
                        self._idle.set()
                        self._go.wait(0.1)
                        continue
                    self._publish(channel, key)
                    self.confirmed.add(key)
                    key = self._next_key()
                    time.sleep(0.02)
                return
            self.repeated += 1
            time.sleep(0.1)

    def stop(self) -> None:
        self._stop.set()
        self._go.set()

    @contextlib.contextmanager
    def paused(self) -> Any:
        """Publish nothing for a while."""
        self._idle.clear()
        self._go.clear()
        self._idle.wait(PATIENCE)
        try:
            yield
        finally:
            self._go.set()

    def starts(self) -> Counter[tuple[str, str]]:
        """Count the starts of each job and attempt, as the scripts noted them."""
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        return Counter((line.split()[0], line.split()[1]) for line in lines)

    def _next_key(self) -> str:
        return f"message {next(self._numbers)}"

    def _publish(self, channel: Any, key: str) -> None:
        chance = random.Random(key)  # a message that is repeated is the same one
        params = {"journal": str(self._journal), "work": chance.choice((0.0, 0.0, 0.05))}
        body = {"script": chance.choice(_SCRIPTS), "params": params}
        properties = pika.BasicProperties(message_id=key, delivery_mode=2)
        channel.basic_publish("", JOBS, json.dumps(body).encode(), properties, mandatory=True)


def jobs_of(node: RunningNode) -> list[Job]:
    with node.connect() as client:
        return list(client.jobs())


def check(node: RunningNode, load: Load, allowed: set[State]) -> list[Job]:
    """See that each confirmed message is one job that ended, and that none started twice."""

    def all_ended() -> list[Job] | None:
        jobs = jobs_of(node)
        ended = {job.key for job in jobs if job.has_ended}
        return jobs if load.confirmed <= ended and all(job.has_ended for job in jobs) else None

    jobs: list[Job] = eventually(all_ended, "every confirmed message has had its job", PATIENCE)
    keys = Counter(job.key for job in jobs)
    assert [key for key, count in keys.items() if count > 1] == [], "a message is two jobs"
    assert {job.state for job in jobs} <= allowed
    starts = load.starts()
    assert max(starts.values(), default=0) <= 1, "a job started twice"
    assert all(starts[job.id, "1"] == 1 for job in jobs if job.state is State.SUCCEEDED)
    return jobs


class Faults:
    """What can happen to a broker, and to the way to it."""

    def __init__(self, broker: RabbitMQ, node: RunningNode, load: Load) -> None:
        self._broker = broker
        self._node = node
        self._load = load

    def kill(self) -> None:
        self._broker.kill()
        self._broker.start()

    def cut(self) -> None:
        self._broker.proxy.cut()

    def partition(self) -> None:
        """Let nothing through until the node has given the connection up."""
        before = self._node.log().count(": down: ")
        self._broker.proxy.stall()
        eventually(lambda: self._node.log().count(": down: ") > before, "the node notices the silence", PATIENCE)
        self._broker.proxy.heal()

    def restart(self) -> None:
        self._broker.restart()

    def pause(self) -> None:
        self._broker.pause()
        time.sleep(1)
        self._broker.resume()

    def refuse(self) -> None:
        before = self._node.log().count(": down: ")
        self._broker.proxy.refuse()
        eventually(lambda: self._node.log().count(": down: ") > before, "the node notices", PATIENCE)
        self._broker.proxy.heal()

    def force(self) -> None:
        """Have the broker close every connection, which is what an operator's command and 320 are."""
        self._broker.control("close_all_connections", "for the test")

    def delete(self) -> None:
        """Delete the queue, once it is empty, under its consumer."""
        with self._load.paused():
            eventually(lambda: self._is_drained(), "the queue is empty", PATIENCE)
            self._broker.delete(JOBS)
            eventually(lambda: self._broker.consumers(JOBS) == 1, "the node consumes again", PATIENCE)
        self._broker.restart()  # 3.10 loses sight of a quorum queue that is killed in its first seconds

    def _is_drained(self) -> bool:
        keys = {job.key for job in jobs_of(self._node)}
        return self._load.confirmed <= keys

    def all(self) -> list[Callable[[], None]]:
        return [self.kill, self.cut, self.restart, self.force, self.pause, self.refuse, self.delete, self.partition]


def await_flow(node: RunningNode, load: Load) -> float:
    """Wait until a message that was confirmed after now has had its job; give the seconds."""
    began = time.monotonic()
    before = set(load.confirmed)

    def flows() -> bool:
        with node.connect() as client:
            newest = list(itertools.islice(client.jobs(), 100))
        return any(job.has_ended and job.key not in before and job.key in load.confirmed for job in newest)

    eventually(flows, "it consumes again", PATIENCE)
    return time.monotonic() - began


@pytest.mark.timeout(1200)
def test_a_failing_broker_loses_nothing_and_runs_nothing_twice(
    own_rabbitmq: RabbitMQ, place: Path, show: Callable[[str], None]
) -> None:
    events, at, slowest = sized(20), Counter[str](), 0.0
    load = Load(own_rabbitmq, place)
    with node_at(own_rabbitmq.proxied_url, place) as node:
        eventually(lambda: own_rabbitmq.consumers(JOBS) == 1, "it consumes", PATIENCE)
        own_rabbitmq.restart()
        faults = Faults(own_rabbitmq, node, load)

        def fail() -> None:
            nonlocal slowest
            try:
                for fault in itertools.islice(itertools.cycle(faults.all()), events):
                    await_flow(node, load)
                    fault()
                    at[fault.__name__] += 1
                    slowest = max(slowest, await_flow(node, load))
            finally:
                load.stop()

        with in_background(fail, load.run):
            pass
        jobs = check(node, load, {State.SUCCEEDED})
        assert own_rabbitmq.count(DEAD) == 0
        assert "Traceback" not in node.log()
    show(
        f"{events} events ({dict(at)}), {len(load.confirmed)} messages confirmed, {load.repeated} breaks at the "
        f"publisher, {len(jobs)} jobs, each succeeded once; slowest to consume again {slowest:.1f} s"
    )


@pytest.mark.timeout(900)
def test_killed_nodes_lose_no_message(own_rabbitmq: RabbitMQ, place: Path, show: Callable[[str], None]) -> None:
    kills, load = sized(10), Load(own_rabbitmq, place)
    with node_at(own_rabbitmq.url, place) as node:

        def kill() -> None:
            try:
                for _ in range(kills):
                    await_flow(node, load)
                    time.sleep(random.uniform(0, 0.2))
                    node.kill()
                    node.start()
            finally:
                load.stop()

        with in_background(kill, load.run):
            pass
        jobs = check(node, load, {State.SUCCEEDED, State.LOST})
        assert own_rabbitmq.count(DEAD) == 0
    states = Counter(job.state.value for job in jobs)
    show(f"{kills} kills of the node, {len(load.confirmed)} messages confirmed, jobs: {dict(states)}")


@pytest.mark.timeout(600)
def test_stop_under_load_from_the_queue(own_rabbitmq: RabbitMQ, place: Path, show: Callable[[str], None]) -> None:
    stops, load = sized(3), Load(own_rabbitmq, place)
    with node_at(own_rabbitmq.url, place) as node:

        def stop() -> None:
            try:
                for _ in range(stops):
                    await_flow(node, load)
                    assert node.stop() == 0, node.log()
                    assert carriers(run_folder(node)) == [], "a job outlives its node"
                    node.start()
            finally:
                load.stop()

        with in_background(stop, load.run):
            pass
        jobs = check(node, load, {State.SUCCEEDED})
        assert own_rabbitmq.count(DEAD) == 0
        assert "Traceback" not in node.log()
    show(f"{stops} stops under load, {len(load.confirmed)} messages confirmed, {len(jobs)} jobs, each succeeded once")
