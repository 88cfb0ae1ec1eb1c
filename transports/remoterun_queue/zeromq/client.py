"""The client half, in its blocking shape and without a thread: what a command line and most programs use.

A REQ that lost an answer is stuck, and a DEALER that connects anew does not say what it has lost. So a connection is
used until it breaks, one call at a time, and what may be asked twice is asked again on a new one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from msgspec import Struct

from remoterun import operations
from remoterun.calling import CallingSession
from remoterun.errors import Internal, Unauthenticated
from remoterun.messages import Event
from remoterun.operations import ArtifactOf, Call, EventsAfter
from remoterun.service import Artifact, Credential, Mapped, Service, Session, Token
from remoterun.transport import Target
from remoterun_queue import envelope
from remoterun_queue.envelope import Answer
from remoterun_queue.zeromq.address import parse_url
from remoterun_queue.zeromq.channel import Channel, Lost, Place

T = TypeVar("T")

CREDIT: Final = 64  # events that may be on their way at once
CHUNK_CREDIT: Final = 16  # the same for pieces of a file


class ZeromqService(Service):
    """The door of a node at `zmq://`.

    Raises:
        Invalid: the URL is no such address.
        Unavailable: nothing answers there.
        Unauthenticated: CURVE does not let this caller in.
    """

    def __init__(self, target: Target) -> None:
        self._place = Place(parse_url(target.url), target)
        self._sessions: list[ZeromqSession] = []
        try:
            self._first: Channel | None = Channel(self._place)  # tells at once whether anything is there
        except BaseException:
            self._place.close()
            raise

    def authenticate(self, credential: Credential) -> Session:
        if not isinstance(credential, Token | Mapped):
            raise Unauthenticated(f"{self._place.address} takes a token")
        session = ZeromqSession(self._place, credential)
        self._sessions.append(session)
        first, self._first = self._first, None
        session.open(first)
        return session

    def close(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            first.close()
        while self._sessions:
            self._sessions.pop().close()
        self._place.close()


class ZeromqSession(CallingSession):
    """The operations at a node, over as many connections as calls go on at once.

    A thread that calls takes an idle connection, or opens one; so a `cancel` goes through while another thread is
    in `run`.
    """

    def __init__(self, place: Place, credential: Token | Mapped) -> None:
        self._place = place
        self._token = (credential.value or None) if isinstance(credential, Token) else None
        self._idle: list[Channel] = []
        self._principal = ""

    def open(self, channel: Channel | None) -> None:
        """Prove the credential, on a connection that is there or a new one.

        Raises:
            Unauthenticated: it is wrong.
            Unavailable: nothing answers.
        """
        if channel is not None:
            self._idle.append(channel)
        answer = self._ask(operations.info())
        answer.check()
        self._principal = answer.principal

    @property
    def principal(self) -> str:
        return self._principal

    def ask(self, call: Call[T]) -> T:
        return self._ask(call).value(call)

    def _ask(self, call: Call[Any]) -> Answer:
        request_id = uuid.uuid4().hex
        body = envelope.write_request(call, request_id, self._token)
        timeout = None if call.waits else self._place.timeout
        try:
            return self._ask_once(body, request_id, timeout)
        except Lost as lost:
            if lost.sent and not call.repeatable:
                raise self._place.unavailable(
                    f"{lost}; the request may have been carried out: look at the list of jobs, "
                    "or give a key, under which it can be sent again"
                ) from lost
        try:
            return self._ask_once(body, request_id, timeout)
        except Lost as lost:
            raise self._place.unavailable(lost) from lost

    def _ask_once(self, body: bytes, request_id: str, timeout: float | None) -> Answer:
        channel = self._take()
        try:
            channel.send(body)
            answer = self._receive(channel, request_id, timeout)
        except BaseException:  # an interrupt too: the answer would be there before the next one
            channel.close()
            raise
        self._idle.append(channel)
        return answer

    def _receive(self, channel: Channel, request_id: str, timeout: float | None) -> Answer:
        try:
            answer = envelope.read_answer(channel.receive(timeout))
        except TimeoutError as error:
            raise self._place.unavailable(error) from error
        if answer.id != request_id:
            answer.check()
            raise Internal("the node answers what was not asked")
        return answer

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        while True:
            last = after
            try:
                for answer in self._stream("events", EventsAfter(job_id, after), CREDIT):
                    event = answer.read_event()
                    after = event.n
                    yield event
                return
            except Lost as lost:
                if after == last:  # not one event since the last attempt
                    raise self._place.unavailable(f"{lost}; resume after event {after}") from lost

    def open_artifact(self, job_id: str, name: str) -> Artifact:
        answers = self._stream("open_artifact", ArtifactOf(job_id, name), CHUNK_CREDIT)
        try:
            first = next(answers, None)
        except Lost as lost:
            raise self._place.unavailable(lost) from lost
        if first is None or first.artifact is None:
            raise Internal("the node did not describe the artifact")
        return Artifact(first.artifact, self._chunks(answers))

    def _chunks(self, answers: Iterator[Answer]) -> Iterator[bytes]:
        try:
            for answer in answers:
                yield answer.chunk_base64 or b""
        except Lost as lost:
            raise self._place.unavailable(lost) from lost

    def _stream(self, operation: str, fields: Struct, credit: int) -> Iterator[Answer]:
        """Give the messages of a stream. One that is left before the end takes its connection along."""
        channel = self._take()
        request_id = uuid.uuid4().hex
        taken = 0
        try:
            channel.send(envelope.write_stream(operation, fields, request_id, self._token, credit))
            while True:
                answer = self._receive(channel, request_id, None)
                if answer.ok is not None:
                    break
                yield answer
                taken += 1
                if taken == credit // 2:
                    channel.send(envelope.write_credit(request_id, taken))
                    taken = 0
        except BaseException:
            channel.close()
            raise
        self._idle.append(channel)
        answer.check()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Channel:
        while self._idle:
            try:
                channel = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if channel.is_usable():
                return channel
            channel.close()
        return Channel(self._place)
