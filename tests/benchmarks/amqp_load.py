"""Calls over RabbitMQ: published persistent and confirmed, each one's answer awaited; on pika alone."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pika
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import AMQPError
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from measure import MeasureError

REQUEST = {"script": "hello", "params": {"name": "Ada"}}
ANSWER = {"hello": "Ada"}

_WARM = 50  # calls before those that are measured
_PATIENCE = 60.0  # seconds


def amqp_rate(url: str, queue: str, count: int) -> float:
    """Publish `count` calls at once and give the answers a second.

    Raises:
        MeasureError: some answer is wrong, or stays away.
    """
    caller = _Caller(url, queue, count, at_once=count)
    caller.run()
    return count / caller.seconds


def amqp_milliseconds(url: str, queue: str, count: int = 300) -> float:
    """Give the time from publishing a call to its confirmation and answer, one at a time; the median of `count`.

    Raises:
        MeasureError: some answer is wrong, or stays away.
    """
    caller = _Caller(url, queue, count, at_once=1)
    caller.run()
    return statistics.median(caller.times) * 1000


def await_consumer(url: str, queue: str) -> None:
    """Wait until somebody consumes a queue.

    Raises:
        MeasureError: nobody does.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        connection = pika.BlockingConnection(_parameters(url))
        try:
            if connection.channel().queue_declare(queue, passive=True).method.consumer_count:
                return
        except AMQPError:
            pass  # it is not declared yet
        finally:
            if connection.is_open:
                connection.close()
        time.sleep(0.1)
    raise MeasureError(f"nobody consumes {queue}")


class _Caller:
    """One connection that makes calls, at most so many at once, and is then closed.

    Parameters:
        seconds: what all that are measured took together.
        times: what each of them took.
    """

    def __init__(self, url: str, queue: str, count: int, at_once: int) -> None:
        self.seconds = 0.0
        self.times: list[float] = []
        self._queue = queue
        self._count = count
        self._at_once = at_once
        self._left = 0  # still to be published
        self._published = 0  # the number of the last message; the broker counts along
        self._begun: dict[str, float] = {}  # correlation ids without an answer yet
        self._unconfirmed: dict[int, None] = {}
        self._began = 0.0
        self._then: Callable[[], None] = self._measure
        self._failure = ""
        self._answers = ""
        self._connection = SelectConnection(
            _parameters(url),
            on_open_callback=self._on_open,
            on_open_error_callback=lambda _, error: self._stop(f"no connection to the broker: {error}"),
            on_close_callback=lambda _, error: self._stop(f"the connection closed: {error}"),
        )
        self._channel: Channel | None = None

    def run(self) -> None:
        """Warm up, then measure.

        Raises:
            MeasureError: some answer is wrong, or stays away.
        """
        self._connection.ioloop.call_later(_PATIENCE, lambda: self._stop("not all answers came"))
        self._connection.ioloop.start()
        if self._connection.is_open:
            self._connection.close()
            self._connection.ioloop.start()
        if self._failure:
            raise MeasureError(f"{self._queue}: {self._failure}")

    def _on_open(self, connection: Connection) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(lambda _, error: self._stop(str(error)))
        channel.add_on_return_callback(lambda *_: self._stop("there is no such queue"))
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._declare())

    def _declare(self) -> None:
        assert self._channel is not None
        self._channel.queue_declare("", exclusive=True, callback=self._on_declared)

    def _on_declared(self, frame: Method[Any]) -> None:
        assert self._channel is not None
        self._answers = frame.method.queue
        self._channel.basic_consume(self._answers, self._on_answer, auto_ack=True, callback=lambda _: self._warm())

    def _warm(self) -> None:
        self._begin(_WARM)

    def _measure(self) -> None:
        self.times.clear()
        self._then = self._end
        self._begin(self._count)

    def _begin(self, count: int) -> None:
        self._left = count
        self._began = time.perf_counter()
        for _ in range(min(count, self._at_once)):
            self._publish()

    def _end(self) -> None:
        self.seconds = time.perf_counter() - self._began
        self._stop("")

    def _publish(self) -> None:
        assert self._channel is not None
        self._left -= 1
        self._published += 1
        call = uuid.uuid4().hex
        self._begun[call] = time.perf_counter()
        self._unconfirmed[self._published] = None
        self._channel.basic_publish(
            "",
            self._queue,
            json.dumps(REQUEST).encode(),
            BasicProperties(message_id=call, correlation_id=call, reply_to=self._answers, delivery_mode=2),
            mandatory=True,
        )

    def _on_confirm(self, frame: Method[Any]) -> None:
        if isinstance(frame.method, Basic.Nack):
            self._stop("the broker refused a message")
            return
        last = frame.method.delivery_tag
        done = list(takewhile(lambda number: number <= last, self._unconfirmed)) if frame.method.multiple else [last]
        for number in done:
            del self._unconfirmed[number]
        self._go_on()

    def _on_answer(self, _: Channel, __: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        if json.loads(body).get("result") != ANSWER:
            self._stop(f"the answer was {body[:200]!r}")
            return
        began = self._begun.pop(properties.correlation_id)
        self.times.append(time.perf_counter() - began)
        self._go_on()

    def _go_on(self) -> None:
        """Publish as many as may be under way; once all are answered and confirmed, do what comes next."""
        while self._left and max(len(self._begun), len(self._unconfirmed)) < self._at_once:
            self._publish()
        if not (self._left or self._begun or self._unconfirmed):
            self._then()

    def _stop(self, failure: str) -> None:
        self._failure = self._failure or ("" if self.seconds else failure)
        self._connection.ioloop.stop()


def _parameters(url: str) -> pika.URLParameters:
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.stack_timeout = 10
    return parameters
