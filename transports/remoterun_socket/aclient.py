"""The client half in its asyncio shape, for gateways: over as many connections as calls go on at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

from remoterun.calling import AsyncCallingSession
from remoterun.errors import Unavailable
from remoterun.messages import Event
from remoterun.operations import Call
from remoterun.pooled import Lost, answer_lost, no_connection
from remoterun.service import AsyncArtifact, AsyncService, AsyncSession, Credential, Origin
from remoterun.tls import client_context
from remoterun.transport import Target
from remoterun_socket import calls, wire
from remoterun_socket.address import Address, parse_url
from remoterun_socket.protocol import NOTHING, ProtocolError, ReplyReader

T = TypeVar("T")

Speaker = tuple[Credential, Origin | None]  # who is proved on a connection, and for whom a gateway calls

_MOST_IDLE = 256  # connections kept open for callers that may come again


class AsyncSocketService(AsyncService):
    """The door of a node at `tcp://`, `tls://` or `unix://`.

    Parameters:
        target: where the node is.
        forwards: whether the node is told for whom each session calls, which it takes from a gateway on its own Unix
            socket; else every call is from here.

    Raises:
        Invalid: the URL is no such address.
    """

    def __init__(self, target: Target, *, forwards: bool = False) -> None:
        self._address = parse_url(target.url)
        self._forwards = forwards
        self._channels = Channels(self._address, target)

    async def authenticate(self, credential: Credential, origin: Origin) -> AsyncSession:
        session = AsyncSocketSession(self._channels, (credential, origin if self._forwards else None))
        await session.open()
        return session

    async def aclose(self) -> None:
        self._channels.close()


class Channels:
    """The connections to a node. Idle ones are kept for who speaks on them, the longest idle ones given up first."""

    def __init__(self, address: Address, target: Target) -> None:
        self.address = address
        self.target = target
        self._open: set[AsyncChannel] = set()
        self._idle: OrderedDict[AsyncChannel, Speaker] = OrderedDict()
        self._of: dict[Speaker, list[AsyncChannel]] = {}

    async def take(self, speaker: Speaker) -> AsyncChannel:
        """Give a connection on which the speaker is proved.

        Raises:
            Unauthenticated: the credential is wrong.
            Unavailable: nothing answers there.
        """
        while (idle := self._of.get(speaker)) is not None:
            channel = self._forget(idle[-1])
            if channel.is_quiet():
                return channel
            channel.close()
        return await self._connect(speaker)

    def give_back(self, channel: AsyncChannel, speaker: Speaker) -> None:
        """Keep a connection for the speaker's next call."""
        self._idle[channel] = speaker
        self._of.setdefault(speaker, []).append(channel)
        if len(self._idle) > _MOST_IDLE:
            self._forget(next(iter(self._idle))).close()

    def close(self) -> None:
        """Close every connection."""
        for channel in list(self._open):
            channel.close()
        self._idle.clear()
        self._of.clear()

    def _forget(self, channel: AsyncChannel) -> AsyncChannel:
        speaker = self._idle.pop(channel)
        self._of[speaker].remove(channel)
        if not self._of[speaker]:
            del self._of[speaker]
        return channel

    async def _connect(self, speaker: Speaker) -> AsyncChannel:
        channel = await AsyncChannel.open(self.address, self.target, self._open)
        try:
            commands = wire.greeting(speaker[0], self.address, speaker[1])
            replies = [await channel.ask(b"".join(commands), self.target.timeout)]
            replies += [await channel.receive(self.target.timeout) for _ in commands[1:]]
            channel.principal = wire.principal(replies)
        except Lost as lost:
            channel.close()
            raise no_connection(self.address, lost) from lost
        except BaseException:
            channel.close()
            raise
        return channel


class AsyncSocketSession(AsyncCallingSession):
    """The operations at a node. Each call takes an idle connection, or opens one."""

    def __init__(self, channels: Channels, speaker: Speaker) -> None:
        self._channels = channels
        self._speaker = speaker
        self._address = channels.address
        self._target = channels.target
        self._principal = ""

    async def open(self) -> None:
        """Prove the credential."""
        channel = await self._channels.take(self._speaker)
        self._principal = channel.principal
        self._channels.give_back(channel, self._speaker)

    @property
    def principal(self) -> str:
        return self._principal

    async def events(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        while True:
            last = after
            try:
                async with aclosing(self._stream(calls.events(job_id, after), b"event")) as messages:
                    async for _, data in messages:
                        event = wire.event(data)
                        after = event.n
                        yield event
                return
            except Lost as lost:
                if after == last:  # not one event since the last attempt
                    raise no_connection(self._address, lost) from lost

    async def open_artifact(self, job_id: str, name: str) -> AsyncArtifact:
        messages = self._stream(calls.artifact(job_id, name), b"artifact", b"chunk")
        try:
            info = wire.artifact_info(await anext(messages, None))
        except Lost as lost:
            raise no_connection(self._address, lost) from lost
        return AsyncArtifact(info, self._chunks(messages))

    async def ask(self, call: Call[T]) -> T:
        timeout = None if call.waits else self._target.timeout
        try:
            return await self._ask_once(call, timeout)
        except Lost as lost:
            if lost.sent and not call.repeatable:
                raise answer_lost(self._address, lost) from lost
        try:
            return await self._ask_once(call, timeout)
        except Lost as lost:
            raise no_connection(self._address, lost) from lost

    async def _ask_once(self, call: Call[T], timeout: float | None) -> T:
        channel = await self._channels.take(self._speaker)
        try:
            reply = await channel.ask(calls.command(call), timeout)
        except BaseException:  # a cancellation too: the answer would be taken for the next call's
            channel.close()
            raise
        if wire.ends_connection(reply):
            channel.close()
        else:
            self._channels.give_back(channel, self._speaker)
        return calls.result(call, reply)

    async def _stream(self, command: bytes, *kinds: bytes) -> AsyncGenerator[tuple[bytes, bytes], None]:
        channel = await self._channels.take(self._speaker)
        try:
            reply = await channel.ask(command, None)
            while (message := wire.message(reply, *kinds)) is not None:
                yield message
                reply = await channel.receive(None)
        except BaseException:
            channel.close()
            raise
        self._channels.give_back(channel, self._speaker)

    async def _chunks(self, messages: AsyncGenerator[tuple[bytes, bytes], None]) -> AsyncIterator[bytes]:
        try:
            async with aclosing(messages):
                async for _, data in messages:
                    yield data
        except Lost as lost:
            raise no_connection(self._address, lost) from lost


class AsyncChannel:
    """One connection, on which one caller at a time asks."""

    def __init__(
        self,
        address: Address,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        channels: set[AsyncChannel],
    ) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self._replies = ReplyReader()
        self._open = channels
        self.principal = ""  # who is proved on it
        channels.add(self)

    @classmethod
    async def open(cls, address: Address, target: Target, channels: set[AsyncChannel]) -> AsyncChannel:
        """Connect.

        Raises:
            Unavailable: nothing answers at the address.
        """
        try:
            async with asyncio.timeout(target.timeout):
                if address.scheme == "unix":
                    reader, writer = await asyncio.open_unix_connection(address.path)
                else:
                    secure = client_context(target) if address.scheme == "tls" else None
                    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=secure)
        except TimeoutError as error:
            raise no_connection(address, f"no connection within {target.timeout:g} s") from error
        except OSError as error:
            raise no_connection(address, error) from error
        return cls(address, reader, writer, channels)

    def is_quiet(self) -> bool:
        """Tell whether the other side has not closed."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    async def ask(self, command: bytes, timeout: float | None) -> Any:
        """Send a command and give its reply.

        Raises:
            Lost: the connection broke.
            Unavailable: no answer came within `timeout` seconds.
        """
        self._writer.write(command)
        return await self.receive(timeout)

    async def receive(self, timeout: float | None) -> Any:
        """Give the next reply.

        Raises:
            Lost: the connection broke.
            Unavailable: no answer came within `timeout` seconds, or it is no RESP.
        """
        try:
            async with asyncio.timeout(timeout):
                while (reply := self._replies.next()) is NOTHING:
                    data = await self._reader.read(wire.RECEIVE)
                    if not data:
                        raise Lost("the connection was closed", sent=True)
                    self._replies.feed(data)
        except TimeoutError as error:
            raise self._too_late(timeout) from error
        except OSError as error:
            raise Lost(error, sent=True) from error
        except ProtocolError as error:
            raise no_connection(self._address, error) from error
        return reply

    def close(self) -> None:
        """Close the connection."""
        self._open.discard(self)
        self._writer.close()

    def _too_late(self, timeout: float | None) -> Unavailable:
        return no_connection(self._address, f"no answer within {timeout:g} s")
