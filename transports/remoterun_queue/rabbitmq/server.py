"""The server half: consumes jobs and calls from RabbitMQ, and publishes answers, refused messages and events.

Two connections: a broker that is short of memory stops reading from those that publish, and acknowledgements, which
make room, must get through meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from pika.spec import Basic, BasicProperties

from remoterun.errors import Invalid, Unavailable
from remoterun.transport import ServerContext, ServerHalf
from remoterun_queue.answering import Answering
from remoterun_queue.exchange import Gone
from remoterun_queue.rabbitmq.address import Address, parse_url
from remoterun_queue.rabbitmq.consumer import Consumer
from remoterun_queue.rabbitmq.delivery import Delivery
from remoterun_queue.rabbitmq.events import EventPublisher
from remoterun_queue.rabbitmq.link import Lane, Link
from remoterun_queue.rabbitmq.publisher import Publisher
from remoterun_queue.rabbitmq.tls import context_for
from remoterun_queue.rabbitmq.topology import Topology

if TYPE_CHECKING:
    from remoterun_queue.rabbitmq import RabbitSettings

logger = logging.getLogger(__name__)

_CONNECT: Final = 10.0  # seconds for a connection
_FIRST: Final = 5.0  # seconds that the node's start waits for its broker
_HERE: Final = ("127.0.0.1", "::1", "localhost")


class RabbitServer(ServerHalf):
    """A broker's queue in front of a service."""

    def __init__(self, context: ServerContext, settings: RabbitSettings) -> None:
        self._address = _address(settings)
        self._tls = context_for(self._address, settings.ca, settings.cert)
        topology = Topology(settings.queue, settings.dead, settings.exchange, settings.attempts)
        self._topology = topology
        self._is_telling = settings.events
        self._publisher = Publisher(
            self._connector("answers"),
            f"[rabbitmq] answers to {self._address}",
            declare=self._declare_exchange,
            on_room=self._serve_waiting,
        )
        self._consumer = Consumer(
            self._connector("jobs"),
            f"[rabbitmq] jobs from {self._address}",
            topology=topology,
            prefetch=settings.prefetch,
            make=self._make_delivery,
            serve=self._serve,
        )
        self._events = EventPublisher(self._publisher, settings.exchange)
        self._answering = Answering(
            context.service,
            "rabbitmq",
            principal=settings.principal,
            largest=context.max_request,
            on_job=self._events.follow if settings.events else None,
        )
        self._giving_up: set[asyncio.Task[None]] = set()
        self._waiting: deque[Delivery] = deque()  # until there is room for their answers

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        if not self._address.is_secure and self._address.host not in _HERE:
            logger.warning("[rabbitmq] %s goes without TLS: begin the url with amqps://", self._address)
        await asyncio.gather(self._publisher.start(_FIRST), self._consumer.start(_FIRST))
        return {"rabbitmq": (str(self._address),)}

    async def stop(self, grace: float) -> None:
        self._consumer.quiesce()
        await self._answering.stop(grace)
        await self._events.stop()
        await asyncio.gather(self._consumer.stop(), self._publisher.stop())

    def brokers(self) -> Mapping[str, str]:
        states = (self._consumer.state, self._publisher.state)
        return {"rabbitmq": next((state for state in states if state != "up"), "up")}

    def _connector(self, what: str) -> Callable[[], Awaitable[Link]]:
        def connect() -> Awaitable[Link]:
            return Link.open(self._address, timeout=_CONNECT, name=f"remoterun {what}", tls=self._tls)

        return connect

    async def _declare_exchange(self, lane: Lane) -> None:
        if self._is_telling:
            await lane.ask(lane.channel.exchange_declare, self._topology.exchange, exchange_type="topic", durable=True)

    def _make_delivery(
        self, lane: Lane, method: Basic.Deliver, properties: BasicProperties, body: bytes, is_call: bool
    ) -> Delivery:
        return Delivery(
            lane,
            method,
            properties,
            body,
            self._publisher,
            topology=self._topology,
            where=str(self._address),
            is_call=is_call,
        )

    def _serve(self, delivery: Delivery) -> None:
        if delivery.is_worn_out:
            task = asyncio.ensure_future(_give_up(delivery))
            self._giving_up.add(task)
            task.add_done_callback(self._giving_up.discard)
        elif not self._publisher.has_room:
            self._waiting.append(delivery)
        elif delivery.begin():
            self._answering.start(delivery, delivery.body, key=delivery.key, trace=delivery.trace)

    def _serve_waiting(self) -> None:
        while self._waiting and self._publisher.has_room:
            self._serve(self._waiting.popleft())


async def _give_up(delivery: Delivery) -> None:
    with contextlib.suppress(Gone):
        await delivery.refuse(Unavailable(f"it was delivered {delivery.deliveries} times and never settled"))


def _address(settings: RabbitSettings) -> Address:
    try:
        return parse_url(settings.url, settings.queue)
    except Invalid as error:
        raise Unavailable(f"[rabbitmq] url: {error.message}") from error
