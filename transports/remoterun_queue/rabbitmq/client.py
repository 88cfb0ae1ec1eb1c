"""The client half's line: calls to the queue beside `remoterun.jobs`, answers from a queue of our own.

A connection has its own loop in a thread. The queue of answers goes with it; after a break there is a new one, and
`QueueSession` asks again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from pika.spec import BasicProperties

from remoterun.errors import Unavailable
from remoterun.messages import encode
from remoterun.transport import Target
from remoterun_queue.line import Line
from remoterun_queue.rabbitmq.address import Address, parse_url
from remoterun_queue.rabbitmq.backoff import Backoff
from remoterun_queue.rabbitmq.link import Link, Lost
from remoterun_queue.rabbitmq.publisher import ConfirmingLane, Unroutable, Unwanted
from remoterun_queue.rabbitmq.tls import context_for
from remoterun_queue.rabbitmq.topology import calls_of

_ANSWERS: Final = 256  # that may be here before they are taken
_LONGEST: Final = 255  # bytes of a property of AMQP's; a longer key is in the message alone
_CLOSE: Final = 5.0  # seconds for a farewell


class _Way:
    """A connection, with the channel for calls and the queue for answers."""

    def __init__(self, link: Link, lane: ConfirmingLane, answers: str) -> None:
        self.link = link
        self.lane = lane
        self.answers = answers

    @property
    def is_open(self) -> bool:
        return self.link.is_open and self.lane.lane.is_open


class RabbitLine(Line):
    """A line over RabbitMQ.

    Raises:
        Invalid: the URL is no address of a broker.
        Unavailable: nothing answers there, or the certificates cannot be used.
    """

    def __init__(self, target: Target) -> None:
        self._where: Address = parse_url(target.url)
        self.address = str(self._where)
        self.received: Callable[[bytes], None] = lambda _: None
        self.lost: Callable[[str], None] = lambda _: None
        self._timeout = target.timeout
        self._tls = context_for(self._where, target.ca_file, target.options.get("cert"))
        self._way: _Way | None = None
        self._loop = asyncio.new_event_loop()
        self._opening = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="remoterun-amqp", daemon=True)
        self._thread.start()
        try:
            self._call(self._within(self._open()))
        except BaseException:
            self.close()
            raise

    def send(self, body: bytes, request_id: str, key: str | None) -> None:
        self._call(self._within(self._send(body, request_id, key)))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        with suppress(Exception):
            self._start(self._farewell()).result(_CLOSE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if self._loop.is_closed():
            coroutine.close()
            raise Unavailable(f"{self.address}: the connection was closed")
        future = self._start(coroutine)
        try:
            future.result()
        except BaseException:
            future.cancel()
            raise

    async def _within(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await coroutine
        except TimeoutError as error:
            raise Unavailable(f"{self.address}: no answer within {self._timeout:g} s") from error
        except Lost as lost:
            raise Unavailable(f"no connection to {self.address}: {lost}") from lost

    async def _send(self, body: bytes, request_id: str, key: str | None) -> None:
        """Publish. Where the connection breaks meanwhile, nobody knows of the message: the news went out by `lost`."""
        backoff = Backoff()
        while True:
            way = await self._open()
            properties = BasicProperties(
                content_type="application/json",
                correlation_id=request_id,
                message_id=key if key and len(key.encode()) <= _LONGEST else None,
                reply_to=way.answers,
                expiration=str(int(self._timeout * 1000)),  # after that nobody waits for it
            )
            try:
                return await way.lane.publish("", calls_of(self._where.queue), body, properties)
            except Unroutable as error:
                where = f"{self.address}: no node takes calls there for the queue {self._where.queue}"
                raise Unavailable(where) from error
            except Unwanted:
                await asyncio.sleep(backoff.next())
            except Lost:
                return None

    async def _open(self) -> _Way:
        async with self._opening:
            if self._way is not None and self._way.is_open:
                return self._way
            link = await Link.open(self._where, timeout=self._timeout, name="remoterun client", tls=self._tls)
            try:
                self._way = await self._ready(link)
            except BaseException:
                link.abort()
                raise
            return self._way

    async def _ready(self, link: Link) -> _Way:
        lane = await ConfirmingLane.open(link)
        inbox = await link.lane()
        declared = await inbox.ask(inbox.channel.queue_declare, "", exclusive=True, auto_delete=True)
        answers = str(declared.method.queue)
        await inbox.consume(answers, _ANSWERS, self._receive, auto_ack=True, exclusive=True)
        way = _Way(link, lane, answers)
        for each in (inbox, lane.lane):
            each.closed.add_done_callback(lambda closed: self._broken(way, closed.result()))
        return way

    def _receive(self, _: object, properties: BasicProperties, body: bytes) -> None:
        if not body.startswith(b'{"id":') and isinstance(properties.correlation_id, str):
            # The answer to what the node could not read, so that the id was not in it: RabbitMQ carries one, too.
            body = b'{"id":%b,%b' % (encode(properties.correlation_id), body[1:])
        self.received(body)

    def _broken(self, way: _Way, lost: Lost) -> None:
        if self._way is not way:  # told before, or closed by us
            return
        self._way = None
        way.link.abort()
        self.lost(f"the connection to {self.address} broke: {lost}")

    async def _farewell(self) -> None:
        async with self._opening:
            way, self._way = self._way, None
            if way is not None:
                await way.link.close()
