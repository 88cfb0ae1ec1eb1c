"""Garbage in the queue: every message is settled, every refused one is with the dead, and the node serves on."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pika
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pika.adapters.blocking_connection import BlockingChannel

from remoterun.operations import OPERATIONS, STREAMS
from remoterun.testing import running_node
from tests.brokers.rabbitmq import RabbitMQ
from tests.hostile.harness import SCRIPTS, eventually, sized

JOBS, DEAD = "fuzz.jobs", "fuzz.dead"
EXAMPLES = sized(400)
GARBAGE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SHORT = st.text(max_size=60)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-1000, max_value=1000).map(Decimal)
    | st.datetimes(min_value=datetime(1980, 1, 1), max_value=datetime(2100, 1, 1)).map(lambda t: t.replace(tzinfo=UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["traceparent", "x-delivery-count", "x-death", "CC", "remoterun-error", "", "a"]) | SHORT
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "headers": st.dictionaries(NAMES, VALUES, max_size=4),
        "message_id": SHORT,
        "correlation_id": SHORT,
        "reply_to": st.sampled_from(["", "nowhere", "fuzz.answers", "amq.rabbitmq.reply-to.x", DEAD]) | SHORT,
        "content_type": SHORT,
        "content_encoding": SHORT,
        "type": SHORT,
        "app_id": SHORT,
        "priority": st.integers(0, 255),
        "timestamp": st.integers(0, 2**40),
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | SHORT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=8,
)
OPS = st.sampled_from([*OPERATIONS, *STREAMS, "credit", "run", "submit"]) | SHORT
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "op": OPS,
        "id": st.integers() | SHORT | JSON,
        "token": SHORT | JSON,
        "script": st.sampled_from(["hello", "no/such", "../hello"]) | SHORT,
        "params": st.dictionaries(SHORT, JSON, max_size=2) | JSON,
        "args": st.lists(SHORT, max_size=2),
        "job": SHORT,
        "credit": st.integers(-2, 3),
        "timeout": st.floats() | st.just(0.01),
        "key": SHORT,
    },
)
BODIES = st.binary(max_size=200) | JSON.map(json.dumps).map(str.encode) | NEARLY.map(json.dumps).map(str.encode)


class Thrower:
    """Publishes what pika can write and the broker takes; that closes the connection over some of it."""

    def __init__(self, broker: RabbitMQ) -> None:
        self._broker = broker
        self._stack = ExitStack()
        self._channel = self._open()
        self.thrown = 0

    def throw(self, body: bytes, properties: dict[str, Any]) -> None:
        try:
            self._channel.basic_publish("", JOBS, body, pika.BasicProperties(**properties), mandatory=True)
            self.thrown += 1
        except (ValueError, TypeError, pika.exceptions.AMQPError):
            if not self._channel.is_open:
                self.close()
                self._channel = self._open()

    def _open(self) -> BlockingChannel:
        return self._stack.enter_context(self._broker.channel())

    def close(self) -> None:
        self._stack.close()


@pytest.mark.timeout(600)
def test_garbage_in_the_queue(rabbitmq: RabbitMQ, place: Path, show: Callable[[str], None]) -> None:
    chosen: dict[str, Any] = {
        "rabbitmq": {"url": rabbitmq.url, "queue": JOBS, "dead": DEAD, "principal": "publisher"},
        "principals": {"publisher": {"scopes": ["run:hello", "read"]}},
        "http": {"enabled": False},
    }
    with running_node(SCRIPTS, data=place / "data", **chosen) as node:
        eventually(lambda: rabbitmq.consumers(JOBS) == 1, "it consumes")
        with rabbitmq.channel() as channel, closing(Thrower(rabbitmq)) as thrower:
            channel.queue_declare("fuzz.answers", exclusive=True)

            @GARBAGE
            @given(BODIES, PROPERTIES)
            def throw(body: bytes, properties: dict[str, Any]) -> None:
                thrower.throw(body, properties)

            throw()
            published = thrower.thrown
        with node.connect("amqp", node.token) as client:
            assert client.run("hello", name="Ada") == {"hello": "Ada"}
            eventually(lambda: rabbitmq.count(JOBS) == 0, "every message is taken")
            eventually(lambda: client.info().load.queued + client.info().load.running == 0, "every job ends")
            jobs = list(client.jobs())
        assert {job.script for job in jobs} <= {"hello"}
        assert "Traceback" not in node.log()
        assert node.stop() == 0
    assert rabbitmq.count(JOBS) == 0, "none was left unsettled"
    dead = rabbitmq.count(DEAD)
    assert published > EXAMPLES / 2
    assert dead > 0
    show(f"{published} messages of garbage, {dead} with the dead, {len(jobs)} jobs, all settled")
