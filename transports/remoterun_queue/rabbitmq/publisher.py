"""Publishing that is known to have arrived: persistent, confirmed, and returned where no queue takes it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import takewhile
from typing import Final

from pika.exceptions import ChannelWrongStateError, ConnectionWrongStateError
from pika.spec import Basic, BasicProperties

from remoterun_queue.rabbitmq.keeper import Keeper
from remoterun_queue.rabbitmq.link import Lane, Link, Lost, reason

logger = logging.getLogger(__name__)

PATIENCE: Final = 900.0  # seconds for which a message waits for a broker that is away, or has no room
_MOST: Final = 1000  # waiting to be published; with more, messages are left unserved, so that the broker keeps them
_PAUSE: Final = 0.5  # seconds before a message is published again that the broker refused


class Unroutable(Exception):
    """No queue of that name is there."""


class Unpublishable(Exception):
    """A message's properties cannot be written as AMQP's."""


class Unwanted(Exception):
    """The broker did not take responsibility for a message."""


_Mark = tuple[str, str, str | None, str | None]


class ConfirmingLane:
    """A channel on which the broker says of each message what became of it."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._last = 0  # the number of the message published last; the broker counts along
        self._waiting: dict[int, tuple[asyncio.Future[None], _Mark]] = {}
        self._returned: set[int] = set()

    @classmethod
    async def open(cls, link: Link) -> ConfirmingLane:
        """Open a channel.

        Raises:
            Lost: the connection is gone.
        """
        lane = await link.lane()
        confirming = cls(lane)
        lane.channel.add_on_return_callback(confirming._on_return)
        await lane.ask(_confirm_delivery(lane, confirming._on_confirm))
        lane.closed.add_done_callback(confirming._on_closed)
        return confirming

    async def publish(
        self, exchange: str, key: str, body: bytes, properties: BasicProperties, mandatory: bool = True
    ) -> None:
        """Publish a message, and wait until it is safe.

        Raises:
            Unroutable: `mandatory`, and no queue takes it.
            Unwanted: the broker refuses it: the queue is full.
            Unpublishable: its properties cannot be written.
            Lost: the channel closed; nobody knows whether it arrived.
        """
        if not self.lane.is_open:
            raise Lost("the channel is closed")
        try:
            self.lane.channel.basic_publish(exchange, key, body, properties, mandatory=mandatory)
        except (ChannelWrongStateError, ConnectionWrongStateError) as error:
            raise Lost(reason(error)) from error
        except Exception as error:  # pika raises whatever its encoder does; nothing was sent
            raise Unpublishable(f"the message cannot be written: {error}") from error
        self._last += 1
        safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[self._last] = safe, (exchange, key, properties.correlation_id, properties.message_id)
        await safe

    def _on_return(self, _: object, method: Basic.Return, properties: BasicProperties, __: bytes) -> None:
        """Note which message came back; its confirmation follows. Those that look alike are in order."""
        mark = method.exchange, method.routing_key, properties.correlation_id, properties.message_id
        for number, (_safe, other) in self._waiting.items():
            if other == mark and number not in self._returned:
                self._returned.add(number)
                return

    def _on_confirm(self, frame: object) -> None:
        method = frame.method  # type: ignore[attr-defined]
        last = method.delivery_tag
        numbers = list(takewhile(lambda each: each <= last, self._waiting)) if method.multiple else [last]
        for number in numbers:
            safe, mark = self._waiting.pop(number)
            came_back = number in self._returned
            self._returned.discard(number)
            if safe.done():  # whoever waited has left
                continue
            if came_back:
                safe.set_exception(Unroutable(f"there is no queue {mark[1]!r}"))
            elif isinstance(method, Basic.Nack):
                safe.set_exception(Unwanted("the broker refuses the message: the queue is full"))
            else:
                safe.set_result(None)

    def _on_closed(self, closed: asyncio.Future[Lost]) -> None:
        waiting, self._waiting = self._waiting, {}
        for safe, _ in waiting.values():
            if not safe.done():
                safe.set_exception(closed.result())


class Publisher(Keeper):
    """Publishes over a connection that is made anew whenever it broke, and again what may not have arrived.

    Parameters:
        connect: opens a connection.
        what: it is for, with the address, for the log.
        declare: has what is published to declared.
        on_room: is called when messages need to wait no longer.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Link]],
        what: str,
        *,
        declare: Callable[[Lane], Awaitable[None]],
        on_room: Callable[[], None],
    ) -> None:
        super().__init__(connect, what)
        self._declare = declare
        self._on_room = on_room
        self._lane: ConfirmingLane | None = None
        self._up = asyncio.Event()
        self._waiting = 0

    @property
    def has_room(self) -> bool:
        """Whether not too many messages wait for the broker."""
        return self._waiting < _MOST

    async def use(self, link: Link) -> Awaitable[Lost]:
        link.on_blocked(self._blocked)
        self._lane = await ConfirmingLane.open(link)
        lane = self._lane.lane
        await self._declare(lane)
        lane.closed.add_done_callback(lambda _: self._up.clear())
        self._up.set()
        return lane.closed

    def _blocked(self, is_blocked: bool) -> None:
        """Say that the broker is short of memory or disk: it takes nothing, and answers wait."""
        if is_blocked:
            logger.warning("%s: the broker is short of memory or disk and takes no messages; they wait", self._what)
        else:
            logger.info("%s: the broker takes messages again", self._what)

    async def publish(
        self, exchange: str, key: str, body: bytes, properties: BasicProperties, mandatory: bool = True
    ) -> None:
        """Publish a message, over as many connections as it takes; it may so arrive more than once.

        Raises:
            Unroutable: `mandatory`, and no queue takes it.
            Unpublishable: its properties cannot be written.
            Lost: it could not be brought there within a quarter of an hour.
        """
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._publish(exchange, key, body, properties, mandatory)
        except TimeoutError as error:
            raise Lost(f"the broker did not take a message within {PATIENCE:g} s") from error
        finally:
            self._waiting -= 1
            if self._waiting == _MOST - 1:
                self._on_room()

    async def _publish(
        self, exchange: str, key: str, body: bytes, properties: BasicProperties, mandatory: bool
    ) -> None:
        while True:
            await self._up.wait()
            assert self._lane is not None
            try:
                return await self._lane.publish(exchange, key, body, properties, mandatory)
            except Unwanted:
                await asyncio.sleep(_PAUSE)
            except Lost:
                await asyncio.sleep(0)  # the channel's own callbacks come first


def _confirm_delivery(lane: Lane, on_confirm: Callable[[object], None]) -> Callable[..., None]:
    def confirm(callback: Callable[[object], None]) -> None:
        lane.channel.confirm_delivery(on_confirm, callback=callback)

    return confirm
