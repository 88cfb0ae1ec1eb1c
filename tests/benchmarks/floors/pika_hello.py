"""A bare consumer that answers calls: `pika_hello.py URL QUEUE`.

A quorum queue, 100 messages at once; an answer is persistent, and a message acknowledged once its answer is confirmed.
"""

import json
import sys
from itertools import takewhile
from typing import Any

import pika
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.connection import Connection
from pika.frame import Method
from pika.spec import Basic, BasicProperties


def hello(name: str) -> dict[str, str]:
    return {"hello": name}


class Consumer:
    def __init__(self, url: str, queue: str) -> None:
        self._queue = queue
        self._answered = 0
        self._unconfirmed: dict[int, int] = {}  # the number of an answer → the tag of its message
        self._connection = SelectConnection(
            pika.URLParameters(url),
            on_open_callback=self._on_open,
            on_close_callback=lambda *_: self._connection.ioloop.stop(),
        )

    def run(self) -> None:
        self._connection.ioloop.start()

    def _on_open(self, connection: Connection) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._declare())

    def _declare(self) -> None:
        quorum = {"x-queue-type": "quorum"}
        self._channel.queue_declare(self._queue, durable=True, arguments=quorum, callback=lambda _: self._consume())

    def _consume(self) -> None:
        self._channel.basic_qos(prefetch_count=100)
        self._channel.basic_consume(self._queue, self._on_message)

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        answer = {"result": hello(**json.loads(body)["params"])}
        self._answered += 1
        self._unconfirmed[self._answered] = method.delivery_tag
        channel.basic_publish(
            "",
            properties.reply_to,
            json.dumps(answer).encode(),
            BasicProperties(delivery_mode=2, correlation_id=properties.correlation_id),
            mandatory=True,
        )

    def _on_confirm(self, frame: Method[Any]) -> None:
        last = frame.method.delivery_tag
        done = list(takewhile(lambda number: number <= last, self._unconfirmed)) if frame.method.multiple else [last]
        for number in done:
            self._channel.basic_ack(self._unconfirmed.pop(number))


if __name__ == "__main__":
    Consumer(sys.argv[1], sys.argv[2]).run()
