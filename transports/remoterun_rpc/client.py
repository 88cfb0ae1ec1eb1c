"""The client half, blocking: what a command line and most programs use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from remoterun.errors import Internal, ServiceError, Unauthenticated
from remoterun.messages import ArtifactInfo, Event, encode
from remoterun.operations import ArtifactOf, Call, EventsAfter, decode_answer
from remoterun.pooled import PooledService, PooledSession
from remoterun.service import Credential, Token
from remoterun.transport import Target
from remoterun_rpc.address import Address, parse_url
from remoterun_rpc.brine import Plain
from remoterun_rpc.channel import Channel

T = TypeVar("T")


class RpcService(PooledService[Channel]):
    """The door of a node at `rpyc://` or `rpycs://`.

    Raises:
        Invalid: the URL is no such address.
        Unavailable: nothing answers there.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._address = parse_url(target.url)
        super().__init__(Channel(self._address, target))

    def _session(self, credential: Credential) -> RpcSession:
        return RpcSession(self._address, self._target, credential)


class RpcSession(PooledSession[Channel]):
    """The operations over RPyC's protocol, in their exact form."""

    def __init__(self, address: Address, target: Target, credential: Credential) -> None:
        super().__init__(address, target.timeout)
        self._where = address
        self._target = target
        self._credential = credential

    def _connect(self) -> Channel:
        return Channel(self._where, self._target)

    def _prove(self, channel: Channel) -> str:
        name = channel.call("login", *_login(self._credential, self._where), timeout=self._timeout)
        if isinstance(name, ServiceError):
            raise name
        return str(name)

    def _ask_once(self, call: Call[T], timeout: float | None) -> T:
        channel = self._take()
        try:
            answer = channel.call("call", call.operation, _text(call.fields), timeout=timeout)
        except BaseException:  # an interrupt too: the answer would be taken for the next call's
            channel.close()
            raise
        if isinstance(answer, Unauthenticated):  # the connection is a stranger's now
            channel.close()
        else:
            self._idle.append(channel)
        if isinstance(answer, ServiceError):
            raise answer
        return call.result(_checked(answer))

    def _events_once(self, job_id: str, after: int) -> Iterator[Event]:
        for piece in self._stream("events", EventsAfter(job_id, after)):
            event: Event = decode_answer(piece, Event)
            yield event

    def _artifact_once(self, job_id: str, name: str) -> tuple[ArtifactInfo, Iterator[bytes]]:
        pieces = self._stream("open_artifact", ArtifactOf(job_id, name))
        info: ArtifactInfo = decode_answer(next(pieces, None), ArtifactInfo)
        return info, map(_bytes, pieces)

    def _stream(self, operation: str, fields: EventsAfter | ArtifactOf) -> Iterator[Plain]:
        """Give the pieces of a stream. An iterator that is left before the end takes its connection along."""
        channel = self._take()
        try:
            yield from channel.stream("call", operation, _text(fields))
        except BaseException:
            channel.close()
            raise
        self._idle.append(channel)


def _bytes(piece: Plain) -> bytes:
    if not isinstance(piece, bytes):
        raise Internal("a piece of the artifact is no bytes")
    return piece


def _checked(answer: Plain) -> str:
    if not isinstance(answer, str):
        raise Internal("the node's answer is no text")
    return answer


def _text(fields: object) -> str:
    return encode(fields).decode()


def _login(credential: Credential, address: Address) -> tuple[str, ...]:
    """Give the arguments of `login`: none where a client certificate proves who calls.

    Raises:
        Unauthenticated: this wire cannot carry the credential.
    """
    if not isinstance(credential, Token):
        raise Unauthenticated(f"{address} takes a token")
    if not credential.value and address.scheme == "rpycs":
        return ()
    return (credential.value,)
