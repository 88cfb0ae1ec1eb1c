"""ActiveMQ killed, restarted, cut off and stalled, and the node killed and stopped, in the middle of load."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stomp
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from remoterun.messages import Job
from remoterun.states import FINAL, State
from remoterun.testing import RunningNode, running_node
from tests.brokers.activemq import DEAD, JOBS, ActiveMQ, Bare, running_activemq
from tests.hostile.harness import (
    SCALE,
    SCRIPTS,
    carriers,
    eventually,
    in_background,
    is_sound,
    orphans,
    run_folder,
    sized,
)

AGAIN = 60.0  # seconds within which a busy machine must see jobs again after a fault; mostly it is one or two
ANSWERS = "/queue/answers"
PACE = 0.03  # seconds between two messages

GARBAGE = settings(
    max_examples=sized(300),
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow],
)


class Load:
    """A bare publisher that never gives up a message, and what it knows was taken."""

    def __init__(self, broker: ActiveMQ, journal: Path) -> None:
        self._broker = broker
        self._journal = str(journal)
        self._client: Bare | None = None
        self.stop = threading.Event()
        self.taken: list[str] = []  # the keys of messages that the broker has confirmed
        self.asked: list[str] = []  # those whose answers go somewhere
        self.resent = 0

    def probe(self) -> float:
        """Have one message answered, by a connection of its own; give the seconds that it took."""
        key, began = uuid.uuid4().hex, time.monotonic()
        body = json.dumps({"script": "noted_warm", "params": {"journal": self._journal}})
        with self._broker.client() as client:
            client.subscribe(f"/queue/{key}")
            client.publish(body, key=key, reply_to=f"/queue/{key}")
            assert json.loads(client.get(AGAIN).body)["state"] == "succeeded"
        self.taken.append(key)
        return time.monotonic() - began

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()

    def publish_all(self) -> None:
        """Publish until told to stop."""
        while not self.stop.wait(PACE):
            self.publish()
        self.close()

    def publish(self) -> str:
        """Publish one message, again and again until the broker confirms it; give its key."""
        key = uuid.uuid4().hex
        script = random.choice(("noted_fork", "noted_warm", "noted_warm"))
        body = json.dumps({"script": script, "params": {"journal": self._journal}})
        wants_answer = random.random() < 0.2
        headers = {"reply_to": ANSWERS, "correlation_id": key} if wants_answer else {}
        while not self._is_confirmed(body, key=key, **headers):
            self.resent += 1
            time.sleep(0.05)
        self.taken.append(key)
        if wants_answer:
            self.asked.append(key)
        return key

    def asked_but(self, answered: set[str], broker: ActiveMQ) -> set[str]:
        """Give the keys whose answers are not there yet; `answered` grows."""
        answered |= {message.headers["correlation-id"] for message in broker.drain(ANSWERS)}
        return set(self.asked) - answered

    def _is_confirmed(self, body: str, **headers: str) -> bool:
        try:
            if self._client is None:
                self._client = Bare(self._broker.port)
            self._client.publish(body, **headers)
        except (ConnectionError, stomp.exception.StompException):
            self._client = None
            return False
        return True


def settings_of(broker: ActiveMQ, **more: Any) -> dict[str, Any]:
    section = {"url": broker.proxied_url, "principal": "publisher", "heartbeat": "1s", "attempts": 1000}
    return {"activemq": section, "principals": {"publisher": {"scopes": ["run"]}}, "workers": 3, **more}


@pytest.fixture
def broker(place: Path) -> Iterator[ActiveMQ]:
    with running_activemq(place / "broker") as running:
        yield running


def killed(broker: ActiveMQ) -> None:
    broker.kill()
    broker.start()


def restarted(broker: ActiveMQ) -> None:
    broker.restart()


def cut_off(broker: ActiveMQ) -> None:
    broker.proxy.cut()


def partitioned(broker: ActiveMQ) -> None:
    broker.proxy.stall()
    time.sleep(random.uniform(0.1, 4.0))  # shorter and longer than it takes to notice
    broker.proxy.heal()


def unreachable(broker: ActiveMQ) -> None:
    broker.proxy.refuse()
    time.sleep(random.uniform(0.1, 1.0))
    broker.proxy.heal()


def paused(broker: ActiveMQ) -> None:
    broker.pause()
    time.sleep(random.uniform(0.1, 4.0))
    broker.resume()


FAULTS = (killed, restarted, cut_off, partitioned, unreachable, paused, cut_off)


def jobs_by_key(node: RunningNode) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    with node.connect() as client:
        for job in client.jobs():
            found.setdefault(job.key or "", []).append(job)
    return found


def missing(node: RunningNode, keys: list[str]) -> set[str]:
    """Give the keys of messages that no ended job stands for."""
    found = jobs_by_key(node)
    return {key for key in keys if not found.get(key) or found[key][0].state not in FINAL}


def starts_of(journal: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in journal.read_text().splitlines())


@pytest.mark.timeout(1800)
def test_a_failing_broker_loses_nothing_and_doubles_nothing(
    broker: ActiveMQ, place: Path, show: Callable[[str], None]
) -> None:
    events, journal = sized(20), place / "journal"
    done: Counter[str] = Counter()
    load = Load(broker, journal)
    again: list[float] = []
    with running_node(SCRIPTS, data=place / "data", **settings_of(broker)) as node:

        def fail() -> None:
            try:
                for number in range(events):
                    fault = FAULTS[number % len(FAULTS)]
                    fault(broker)
                    done[fault.__name__] += 1
                    again.append(load.probe())
            finally:
                load.stop.set()

        with in_background(load.publish_all, fail):
            pass
        eventually(lambda: not missing(node, load.taken), "every message is an ended job", AGAIN)
        answered: set[str] = set()
        eventually(lambda: load.asked_but(answered, broker) == set(), "every answer is there", AGAIN)
        found = jobs_by_key(node)
        assert node.stop() == 0
    assert found.keys() == set(load.taken)
    assert {len(jobs) for jobs in found.values()} == {1}
    assert {jobs[0].state for jobs in found.values()} == {State.SUCCEEDED}
    assert starts_of(journal) == {jobs[0].id: 1 for jobs in found.values()}
    assert broker.drain(JOBS) == []
    assert broker.drain(DEAD) == []
    show(
        f"{events} faults {dict(done)}: {len(load.taken)} messages confirmed, {load.resent} sent again, each one job,"
        f" {len(load.asked)} answers; serves again in {statistics.median(again):.1f} s, at worst {max(again):.1f} s"
    )


@pytest.mark.timeout(1800)
def test_a_killed_node_loses_nothing_of_the_queue(broker: ActiveMQ, place: Path, show: Callable[[str], None]) -> None:
    kills, journal = sized(10), place / "journal"
    load = Load(broker, journal)
    with running_node(SCRIPTS, data=place / "data", **settings_of(broker)) as node:

        def kill() -> None:
            try:
                for _ in range(kills):
                    load.probe()
                    time.sleep(random.uniform(0.0, 0.3))
                    node.kill()
                    time.sleep(random.uniform(0.0, 0.3))
                    assert is_sound(node.data)
                    node.start()
                    eventually(lambda: orphans(node) == [], "no job outlives its node")
            finally:
                load.stop.set()

        with in_background(load.publish_all, kill):
            pass
        eventually(lambda: not missing(node, load.taken), "every message is an ended job", AGAIN)
        found = jobs_by_key(node)
        assert node.stop() == 0
    ends = Counter(jobs[0].state for jobs in found.values())
    assert found.keys() == set(load.taken)
    assert {len(jobs) for jobs in found.values()} == {1}
    assert ends.keys() <= {State.SUCCEEDED, State.LOST}
    starts = starts_of(journal)
    assert max(starts.values()) == 1
    assert {jobs[0].id for jobs in found.values() if jobs[0].state is State.SUCCEEDED} <= starts.keys()
    assert broker.drain(JOBS) == []
    assert broker.drain(DEAD) == []
    show(f"{kills} kills of the node: {len(load.taken)} messages confirmed, each one job: {dict(ends)}")


@pytest.mark.timeout(600)
def test_a_node_stops_under_load_and_goes_on(broker: ActiveMQ, place: Path, show: Callable[[str], None]) -> None:
    stops, journal = sized(3), place / "journal"
    load = Load(broker, journal)
    with running_node(SCRIPTS, data=place / "data", **settings_of(broker)) as node:

        def stop() -> None:
            try:
                for _ in range(stops):
                    load.probe()
                    assert node.stop() == 0, node.log()
                    assert carriers(run_folder(node)) == [], "a job outlives its node"
                    assert is_sound(node.data)
                    node.start()
            finally:
                load.stop.set()

        with in_background(load.publish_all, stop):
            pass
        eventually(lambda: not missing(node, load.taken), "every message is an ended job", AGAIN)
        found = jobs_by_key(node)
        assert node.stop() == 0
    assert found.keys() == set(load.taken)
    assert {len(jobs) for jobs in found.values()} == {1}
    assert {jobs[0].state for jobs in found.values()} == {State.SUCCEEDED}
    assert starts_of(journal) == {jobs[0].id: 1 for jobs in found.values()}
    assert broker.drain(DEAD) == []
    show(f"{stops} stops of the node under load: {len(load.taken)} messages confirmed, each one job that succeeded")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
NAMES = st.sampled_from(
    (
        *("key", "remoterun-key", "correlation-id", "traceparent", "content-type", "type", "amq-msg-type"),
        *("JMSXGroupID", "priority", "redelivered", "ack", "message-id", "subscription", "remoterun-error", "x:y"),
    )
)
WAYS = st.sampled_from(["/queue/no", "/topic/no", "/temp-queue/mine", "/remote-temp-queue/ID:gone", JOBS, DEAD, "x"])
HEADERS = st.tuples(st.dictionaries(NAMES, TEXT, max_size=4), st.dictionaries(st.just("reply-to"), WAYS)).map(
    lambda both: both[0] | both[1]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OPS = st.sampled_from(
    ["run", "submit", "info", "events", "credit", "cancel", "wait", "open_artifact", "frobnicate", None, 7]
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "op": OPS,
        "script": st.sampled_from(["hello", "noted_warm", "../hello", "no/such", ""]) | JSON,
        "params": st.fixed_dictionaries({"name": TEXT}) | JSON,
        "id": JSON,
        "token": TEXT,
        "key": TEXT | JSON,
        "job": TEXT,
        "n": st.integers(-1, 3),
        "credit": JSON,
        "timeout": st.floats(),
    },
)
BODIES = st.binary(max_size=60) | (JSON | REQUESTS).map(lambda value: json.dumps(value).encode())


@pytest.mark.timeout(600)
def test_garbage_in_the_queue_is_put_aside(broker: ActiveMQ, place: Path, show: Callable[[str], None]) -> None:
    count: Counter[str] = Counter()
    with running_node(SCRIPTS, data=place / "data", **settings_of(broker)) as node:

        @GARBAGE
        @given(body=BODIES, headers=HEADERS)
        def publish(body: bytes, headers: dict[str, str]) -> None:
            try:
                clients[-1].publish_with(body, headers)
                count["taken"] += 1
            except ConnectionError:
                count["refused by the broker itself"] += 1
                clients[-1].close()
                clients.append(Bare(broker.port))

        clients = [Bare(broker.port)]
        publish()
        clients[-1].close()
        load = Load(broker, place / "journal")
        load.probe()
        assert node.stop() == 0
        log = node.log()
    assert "Traceback" not in log, log
    assert broker.drain(JOBS) == []
    count["put aside"] = len(broker.drain(DEAD))
    assert count["put aside"] > 20 * SCALE
    show(f"garbage: {dict(count)}")
