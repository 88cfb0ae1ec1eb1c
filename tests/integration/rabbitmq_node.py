"""What the tests of the RabbitMQ transport share: a node behind queues of its own, and a bare publisher of pika's."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel

from remoterun.testing import RunningNode, running_node
from tests.brokers.rabbitmq import RabbitMQ

SCRIPTS = Path(__file__).parents[1] / "contract" / "scripts"
PUBLISHER = {"publisher": {"scopes": ["run", "read"]}}
PATIENCE = 40.0  # seconds for what takes milliseconds on an idle machine


@dataclass(frozen=True)
class Behind:
    """A node that consumes queues of its own."""

    node: RunningNode
    broker: RabbitMQ
    jobs: str
    dead: str

    def publish(self, body: bytes | dict[str, Any], **properties: Any) -> None:
        """Publish as anyone would, with a confirm."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.broker.publish(self.jobs, text, **properties)

    def take_dead(self) -> tuple[pika.BasicProperties, bytes, dict[str, Any]]:
        """Wait for a dead message; give it and its headers."""
        properties, body = self.broker.get(self.dead, PATIENCE)
        return properties, body, dict(properties.headers or {})


def settings_for(url: str, **more: Any) -> dict[str, Any]:
    """Give the settings of a node that consumes queues of its own at a broker."""
    name = uuid.uuid4().hex[:8]
    section = {"url": url, "queue": f"jobs.{name}", "dead": f"dead.{name}", "principal": "publisher", **more}
    return {"rabbitmq": section, "principals": PUBLISHER, "http": {"enabled": False}}


@contextmanager
def behind(broker: RabbitMQ, scripts: Path = SCRIPTS, *, url: str = "", **more: Any) -> Iterator[Behind]:
    """Run a node behind a broker; `rabbitmq` among the settings adds to its section."""
    chosen = settings_for(**{"url": url or broker.url, **more.pop("rabbitmq", {})})
    with running_node(scripts, **{**chosen, **more}) as node:
        yield Behind(node, broker, chosen["rabbitmq"]["queue"], chosen["rabbitmq"]["dead"])


class Caller:
    """A bare publisher with confirms and a queue for answers; none of our code."""

    def __init__(self, channel: BlockingChannel, queue: str) -> None:
        self.channel = channel
        self.queue = queue
        self.answers = str(channel.queue_declare("", exclusive=True).method.queue)

    def ask(self, body: bytes | dict[str, Any], **properties: Any) -> str:
        """Publish; give the correlation id."""
        correlation = uuid.uuid4().hex
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        chosen = {"reply_to": self.answers, "correlation_id": correlation, "delivery_mode": 2, **properties}
        self.channel.basic_publish("", self.queue, text, pika.BasicProperties(**chosen), mandatory=True)
        return correlation

    def answer(self) -> tuple[pika.BasicProperties, dict[str, Any]]:
        """Wait for the next answer."""
        for method, properties, body in self.channel.consume(self.answers, inactivity_timeout=PATIENCE, auto_ack=True):
            assert method is not None, "no answer came"
            assert properties is not None
            return properties, json.loads(body or b"")
        raise AssertionError("the queue of answers is gone")

    def call(self, body: bytes | dict[str, Any], **properties: Any) -> dict[str, Any]:
        """Publish, and wait for the answer to that."""
        correlation = self.ask(body, **properties)
        while True:
            found, answer = self.answer()
            if found.correlation_id == correlation:
                return answer


@contextmanager
def caller(broker: RabbitMQ, queue: str) -> Iterator[Caller]:
    """Give a bare publisher."""
    with broker.channel() as channel:
        yield Caller(channel, queue)
