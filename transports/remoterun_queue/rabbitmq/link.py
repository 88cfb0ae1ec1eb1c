"""A connection to a broker and its channels, in asyncio's shape over pika's callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import pika
from pika.channel import Channel
from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

from remoterun_queue.rabbitmq.address import Address
from remoterun_queue.rabbitmq.stream import StreamConnection

_pika = logging.getLogger("pika")
if _pika.level == logging.NOTSET:  # a program that uses pika itself may have said what it wants
    _pika.setLevel(logging.CRITICAL)  # it logs each lost connection in ten lines; we do it in one

BLOCKED: Final = 60.0  # seconds for which a broker that is short of memory or disk may keep a connection waiting
HEARTBEAT: Final = 10  # seconds; a peer that says nothing for two of them is gone
_CLOSING: Final = 2.0  # seconds that a broker has for its part of a farewell

OnMessage = Callable[[Basic.Deliver, BasicProperties, bytes], None]


class Lost(Exception):
    """The connection or the channel is gone, or could not be had; the text says why."""


class Refused(Lost):
    """The broker closed a channel because of what was asked of it.

    Parameters:
        code: AMQP's: 404 where something is missing, 406 where it exists otherwise than was asked for.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Link:
    """One connection. Once it is lost it stays so: open another one."""

    def __init__(self, connection: StreamConnection, lost: asyncio.Future[Lost]) -> None:
        self._connection = connection
        self.lost = lost

    @classmethod
    async def open(cls, address: Address, *, timeout: float, name: str, tls: ssl.SSLContext | None = None) -> Link:
        """Connect and log in.

        Parameters:
            timeout: seconds for all of it.
            name: what the broker's own tools call this connection.

        Raises:
            Lost: nothing answers, or the broker refuses the credentials.
        """
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        lost: asyncio.Future[Lost] = loop.create_future()
        connection = StreamConnection(
            _parameters(address, name),
            lambda _: _succeed(opened, None),
            lambda _, error: _fail(opened, Lost(reason(error))),
            lambda _, error: _succeed(lost, Lost(reason(error))),
        )
        try:
            async with asyncio.timeout(timeout):
                await loop.create_connection(lambda: connection, address.host, address.port, ssl=tls)
                await opened
        except TimeoutError as error:
            raise Lost(f"no answer within {timeout:g} s") from error
        except OSError as error:  # an SSLError is one
            raise Lost(str(error)) from error
        finally:
            if not connection.is_open:
                connection.abort()
        return cls(connection, lost)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return not self.lost.done() and self._connection.is_open

    async def lane(self) -> Lane:
        """Open a channel.

        Raises:
            Lost: the connection is gone.
        """
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            channel = self._connection.channel(on_open_callback=lambda _: _succeed(opened, None))
        except AMQPError as error:
            raise Lost(reason(error)) from error
        lane = Lane(channel)
        await lane.until(opened)
        return lane

    def on_blocked(self, callback: Callable[[bool], None]) -> None:
        """Have told when the broker takes no more messages (true), and when it does again (false)."""
        self._connection.add_on_connection_blocked_callback(lambda *_: callback(True))
        self._connection.add_on_connection_unblocked_callback(lambda *_: callback(False))

    async def close(self) -> None:
        """Say farewell; what is not acknowledged goes back to its queue."""
        if self.is_open:
            with contextlib.suppress(AMQPError):
                self._connection.close()
            await asyncio.wait([self.lost], timeout=_CLOSING)
        self.abort()

    def abort(self) -> None:
        """Drop the connection without a word."""
        _succeed(self.lost, Lost("the connection was closed here"))
        self._connection.abort()


class Lane:
    """One channel. What is asked on it fails as `Lost` once it is closed, by whomever."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.closed: asyncio.Future[Lost] = asyncio.get_running_loop().create_future()
        channel.add_on_close_callback(lambda _, error: _succeed(self.closed, _as_lost(error)))

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return not self.closed.done() and bool(self.channel.is_open)

    async def until(self, answered: asyncio.Future[Any]) -> Any:
        """Wait for an answer of the broker's.

        Raises:
            Lost: the channel closed first.
        """
        await asyncio.wait([answered, self.closed], return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            return answered.result()
        answered.cancel()
        raise self.closed.result()

    async def ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method of the channel that takes a callback, and give what the broker answers.

        Raises:
            Lost: the channel is closed, or the broker closes it because of this.
        """
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            method(*args, callback=lambda frame: _succeed(answered, frame), **kwargs)
        except AMQPError as error:
            raise Lost(reason(error)) from error
        return await self.until(answered)

    async def declare_queue(
        self, name: str, arguments: Mapping[str, Any], durable: bool = True, auto_delete: bool = False
    ) -> None:
        """See that a queue is there, as it is wanted.

        Raises:
            Refused: there is another one of that name.
        """
        await self.ask(
            self.channel.queue_declare, name, durable=durable, auto_delete=auto_delete, arguments=dict(arguments)
        )

    async def consume(self, queue: str, prefetch: int, on_message: OnMessage, **options: Any) -> None:
        """Have messages delivered, at most `prefetch` unacknowledged ones at once; the channel ends with its consumer.

        A queue that is deleted, or moves to another broker of its cluster, ends the consumer without an error.
        """

        def cancelled(_: object) -> None:
            _succeed(self.closed, Lost("the broker cancelled the consumer: the queue was deleted, or has moved"))
            self.close()

        self.channel.add_on_cancel_callback(cancelled)
        await self.ask(self.channel.basic_qos, prefetch_count=prefetch)
        await self.ask(
            self.channel.basic_consume,
            queue,
            lambda _, method, properties, body: on_message(method, properties, body),
            **options,
        )

    def ack(self, tag: int) -> bool:
        """Acknowledge a message that this channel delivered; whether that could be said."""
        if not self.is_open:
            return False  # the broker delivers it again, on another channel
        self.channel.basic_ack(tag)
        return True

    def close(self) -> None:
        """Close the channel; what is not acknowledged goes back to its queue."""
        if self.channel.is_open:
            with contextlib.suppress(AMQPError):
                self.channel.close()


def reason(error: BaseException) -> str:
    """Say in a line why a connection or channel failed: pika wraps errors in errors."""
    inner = error
    while True:
        wrapped = getattr(inner, "exceptions", None) or [getattr(inner, "exception", None), *inner.args[:1]]
        below = next((each for each in reversed(wrapped) if isinstance(each, BaseException)), None)
        if below is None:
            break
        inner = below
    code, text = getattr(inner, "reply_code", None), getattr(inner, "reply_text", None)
    if code is not None:
        return f"{code} {text}"
    return str(inner) or type(inner).__name__


def _as_lost(error: BaseException) -> Lost:
    code = getattr(error, "reply_code", None)
    return Lost(reason(error)) if code is None else Refused(code, reason(error))


def _parameters(address: Address, name: str) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        virtual_host=address.vhost,
        credentials=pika.PlainCredentials(address.user, address.password, erase_on_connect=True),
        heartbeat=HEARTBEAT,
        blocked_connection_timeout=BLOCKED,
        client_properties={"connection_name": name},
    )


def _succeed(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
