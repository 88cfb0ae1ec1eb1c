"""One message that RabbitMQ delivered, and the way back to who sent it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pika.spec import Basic, BasicProperties

from remoterun.errors import ServiceError
from remoterun_queue.exchange import Exchange, Gone
from remoterun_queue.rabbitmq.link import Lane, Lost
from remoterun_queue.rabbitmq.publisher import Publisher, Unpublishable, Unroutable
from remoterun_queue.rabbitmq.topology import Topology, deliveries

PERSISTENT: Final = 2
JSON: Final = "application/json"
ERROR_HEADER: Final = "remoterun-error"
REASON_HEADER: Final = "remoterun-reason"
QUEUE_HEADER: Final = "remoterun-queue"
_REASON: Final = 1000  # characters


class Delivery(Exchange):
    """A message on the channel that it came by, where alone it can be acknowledged.

    Parameters:
        topology: where refused messages go, and when a message was delivered too often.
        where: the broker's address, for the records.
        is_call: whether someone waits for the answer and asks again where none comes. Such a message is acknowledged
            when it begins to be served: there may be thousands whose answers take hours.
    """

    def __init__(
        self,
        lane: Lane,
        method: Basic.Deliver,
        properties: BasicProperties,
        body: bytes,
        publisher: Publisher,
        *,
        topology: Topology,
        where: str,
        is_call: bool,
    ) -> None:
        reader = properties.reply_to or None
        super().__init__(reader, peer=reader or where, is_kept=not is_call)
        self._lane = lane
        self._tag: int = method.delivery_tag
        self._key: str = method.routing_key
        self._properties = properties
        self.body = body
        self._publisher = publisher
        self._topology = topology

    def begin(self) -> bool:
        """Begin to serve it; whether that makes sense, or the broker delivers it again."""
        return self._lane.is_open if self.is_kept else self._lane.ack(self._tag)

    @property
    def is_gone(self) -> bool:
        return self.is_kept and not self._is_settled and not self._lane.is_open

    @property
    def trace(self) -> str | None:
        """The W3C traceparent of its headers."""
        return _text((self._properties.headers or {}).get("traceparent"))

    @property
    def key(self) -> str | None:
        """Its idempotency key."""
        return _text(self._properties.message_id)

    @property
    def is_worn_out(self) -> bool:
        """Whether it was delivered so often that no further attempt is made."""
        return self.is_kept and self.deliveries > self._topology.attempts

    @property
    def deliveries(self) -> int:
        """How often it was delivered before."""
        return deliveries(self._properties.headers)

    async def _accept(self) -> None:
        self._acknowledge()

    async def _refuse(self, error: ServiceError) -> None:
        """Publish it to the dead, and acknowledge it once it is safe there; rejecting it would lose the reason."""
        try:
            try:
                await self._publish(self._topology.dead, self.body, self._with_reason(error))
            except Unpublishable:  # the sender's own properties are such that pika reads and cannot write them
                bare = BasicProperties(headers=self._reason_headers(error), delivery_mode=PERSISTENT)
                await self._publish(self._topology.dead, self.body, bare)
        except Gone:
            self._lane.close()  # the queue of dead messages was deleted: have all declared and delivered again
            raise
        self._acknowledge()

    async def answer(self, body: bytes) -> None:
        answer = BasicProperties(
            content_type=JSON,
            correlation_id=_text(self._properties.correlation_id) or self.key,
            delivery_mode=PERSISTENT,
        )
        await self._publish(str(self.reader), body, answer)

    async def _publish(self, queue: str, body: bytes, properties: BasicProperties) -> None:
        try:
            await self._publisher.publish("", queue, body, properties)
        except (Unroutable, Lost) as error:
            raise Gone(f"nothing could be sent to the queue {queue!r}: {error}") from error

    def _acknowledge(self) -> None:
        if self.is_kept and not self._lane.ack(self._tag):
            raise Gone("the channel is closed that the message came by; it will be delivered again")

    def _reason_headers(self, error: ServiceError) -> dict[str, Any]:
        return {ERROR_HEADER: error.code, REASON_HEADER: error.message[:_REASON], QUEUE_HEADER: self._key}

    def _with_reason(self, error: ServiceError) -> BasicProperties:
        old = self._properties
        headers = {**_kept_headers(old.headers), **self._reason_headers(error)}
        return BasicProperties(
            content_type=old.content_type,
            content_encoding=old.content_encoding,
            headers=headers,
            delivery_mode=PERSISTENT,
            correlation_id=old.correlation_id,
            reply_to=old.reply_to,
            message_id=old.message_id,
            timestamp=old.timestamp,
            type=old.type,
            app_id=old.app_id,
        )


def _kept_headers(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the sender's headers without those that steer a broker: CC would send the message elsewhere, too."""
    steering = {"CC", "BCC"}
    return {name: value for name, value in (headers or {}).items() if name not in steering}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
