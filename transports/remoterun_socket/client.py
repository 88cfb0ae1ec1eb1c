"""The client half in its blocking shape: what a command line and most programs use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from remoterun.messages import ArtifactInfo, Event
from remoterun.operations import Call
from remoterun.pooled import PooledService, PooledSession
from remoterun.service import Credential
from remoterun.transport import Target
from remoterun_socket import calls, wire
from remoterun_socket.address import Address, parse_url
from remoterun_socket.channel import Channel

T = TypeVar("T")


class SocketService(PooledService[Channel]):
    """The door of a node at `tcp://`, `tls://` or `unix://`.

    Raises:
        Invalid: the URL is no such address.
        Unavailable: nothing answers there.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._address = parse_url(target.url)
        super().__init__(Channel(self._address, target))

    def _session(self, credential: Credential) -> SocketSession:
        return SocketSession(self._address, self._target, credential)


class SocketSession(PooledSession[Channel]):
    """The operations over RESP."""

    def __init__(self, address: Address, target: Target, credential: Credential) -> None:
        super().__init__(address, target.timeout)
        self._where = address
        self._target = target
        self._credential = credential

    def _connect(self) -> Channel:
        return Channel(self._where, self._target)

    def _prove(self, channel: Channel) -> str:
        commands = wire.greeting(self._credential, self._where)
        replies = [channel.ask(b"".join(commands), self._timeout)]
        replies += [channel.receive(self._timeout) for _ in commands[1:]]
        return wire.principal(replies)

    def _ask_once(self, call: Call[T], timeout: float | None) -> T:
        channel = self._take()
        try:
            reply = channel.ask(calls.command(call), timeout)
        except BaseException:  # an interrupt too: the answer would be taken for the next call's
            channel.close()
            raise
        if wire.ends_connection(reply):
            channel.close()
        else:
            self._idle.append(channel)
        return calls.result(call, reply)

    def _events_once(self, job_id: str, after: int) -> Iterator[Event]:
        for _, data in self._stream(calls.events(job_id, after), b"event"):
            yield wire.event(data)

    def _artifact_once(self, job_id: str, name: str) -> tuple[ArtifactInfo, Iterator[bytes]]:
        messages = self._stream(calls.artifact(job_id, name), b"artifact", b"chunk")
        return wire.artifact_info(next(messages, None)), (data for _, data in messages)

    def _stream(self, command: bytes, *kinds: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Give the messages of a stream. An iterator that is left before the end takes its connection along."""
        channel = self._take()
        try:
            reply = channel.ask(command, None)
            while (message := wire.message(reply, *kinds)) is not None:
                yield message
                reply = channel.receive(None)
        except BaseException:
            channel.close()
            raise
        self._idle.append(channel)
