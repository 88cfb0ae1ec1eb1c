"""The client half of every queue: operations as messages over a line, answers by their ids.

A queue may lose what nobody acknowledged to us, and a node may die between a message and its answer. So no wait is
for ever: what was not answered in time is asked again, which is harmless, since each job request has a key.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from remoterun import operations
from remoterun.calling import CallingSession
from remoterun.errors import Forbidden, Internal, ServiceError, Unauthenticated, Unavailable
from remoterun.messages import ArtifactInfo, Event, Job, JobRequest, StateEvent
from remoterun.operations import ArtifactOf, Call, EventsAfter, WaitFor
from remoterun.service import Artifact, Credential, Mapped, Service, Session, Token
from remoterun_queue import envelope
from remoterun_queue.envelope import Answer
from remoterun_queue.line import Line

T = TypeVar("T")

PATIENCE = 20.0  # seconds without a word after which a node that works on a job is asked how it stands
BREAKS = 5  # of the line, one after another, that a question outlives
CREDIT = 64  # messages of a stream that may be on their way at once
CHUNK_CREDIT = 16  # the same where each one is a piece of a file


class Lost(Exception):
    """The line broke after the message was sent: its answer may never come."""


class Inbox:
    """The answers to one request, in order."""

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self._answers: queue.SimpleQueue[Answer | Lost] = queue.SimpleQueue()

    def put(self, answer: Answer | Lost) -> None:
        """Add an answer, or the news that none may come."""
        self._answers.put(answer)

    def get(self, timeout: float) -> Answer:
        """Wait for the next answer.

        Raises:
            TimeoutError: there was none within `timeout` seconds.
            Lost: the line broke.
        """
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty as error:
            raise TimeoutError(f"no answer within {timeout:g} s") from error
        if isinstance(answer, Lost):
            raise answer
        return answer


class Switchboard:
    """Brings answers to who waits for them."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._inboxes: dict[str, Inbox] = {}
        self._lock = threading.Lock()
        line.received = self._received
        line.lost = self._lost

    @contextmanager
    def opened(self) -> Iterator[Inbox]:
        """Give an inbox under a new id."""
        inbox = Inbox(uuid.uuid4().hex)
        with self._lock:
            self._inboxes[inbox.id] = inbox
        try:
            yield inbox
        finally:
            with self._lock:
                del self._inboxes[inbox.id]

    def _received(self, body: bytes) -> None:
        try:
            answer = envelope.read_answer(body)
        except Internal:
            return  # whoever waits will ask again, and say so where that does not help
        with self._lock:
            inbox = self._inboxes.get(str(answer.id))
        if inbox is not None:
            inbox.put(answer)

    def _lost(self, reason: str) -> None:
        with self._lock:
            inboxes = list(self._inboxes.values())
        for inbox in inboxes:
            inbox.put(Lost(reason))


class QueueService(Service):
    """The door of a node behind a queue.

    Parameters:
        line: leads to it.
        timeout: seconds for each answer that does not wait for a job.
    """

    def __init__(self, line: Line, timeout: float) -> None:
        self._line = line
        self._switchboard = Switchboard(line)
        self._timeout = timeout

    def authenticate(self, credential: Credential) -> Session:
        if not isinstance(credential, Token | Mapped):
            raise Unauthenticated(f"{self._line.address} takes a token")
        session = QueueSession(self._switchboard, credential, self._timeout)
        session.open()
        return session

    def close(self) -> None:
        self._line.close()


class QueueSession(CallingSession):
    """The operations at a node behind a queue. Threads may call at the same time."""

    def __init__(self, switchboard: Switchboard, credential: Credential, timeout: float) -> None:
        self._switchboard = switchboard
        self._token = (credential.value or None) if isinstance(credential, Token) else None
        self._timeout = timeout
        self._principal = ""

    def open(self) -> None:
        """Prove the credential, and that a node is there.

        Raises:
            Unauthenticated: the credential is wrong.
            Unavailable: no node answers.
        """
        answer = self._ask_again(operations.info(), self._timeout)
        answer.check()
        self._principal = answer.principal

    @property
    def principal(self) -> str:
        return self._principal

    def run(self, request: JobRequest) -> Job:
        keyed = _keyed(request)
        while True:
            with suppress(TimeoutError, Lost):
                return self._ask_once(operations.run(keyed), PATIENCE)
            job = self.ask(operations.submit(keyed))  # the same job, by its key
            with suppress(Forbidden):  # who may run and not read waits by asking for the same run again
                return job if job.has_ended else self.wait(job.id)

    def submit(self, request: JobRequest) -> Job:
        return self.ask(operations.submit(_keyed(request)))

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = PATIENCE if deadline is None else max(0.0, min(PATIENCE, deadline - time.monotonic()))
            call: Call[Job] = Call("wait", WaitFor(job_id, left), Job)
            job = self._ask_again(call, left + self._timeout).value(call)
            if job.has_ended or (deadline is not None and time.monotonic() >= deadline):
                return job

    def cancel(self, job_id: str) -> Job:
        call = operations.cancel(job_id)
        return self._ask_again(call, PATIENCE + self._timeout).value(call)

    def ask(self, call: Call[T]) -> T:
        if call.repeatable:
            return self._ask_again(call, self._timeout).value(call)
        try:
            return self._ask_once(call, self._timeout)
        except (TimeoutError, Lost) as error:
            raise Unavailable(
                f"{self._address}: {error}; the request may have been carried out: look at the list of jobs"
            ) from error

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        silences = 0  # streams that ended without an event or an end
        while True:
            last = after
            try:
                for answer in self._stream("events", EventsAfter(job_id, after), CREDIT, PATIENCE):
                    event = answer.read_event()
                    if event.n <= after:  # of a message that the queue delivered twice
                        continue
                    after = event.n
                    yield event
                    if isinstance(event, StateEvent) and event.final:
                        return
                return
            except (TimeoutError, Lost) as error:
                silences = 0 if after > last else silences + 1
                if silences > 1:
                    self._prove_alive(error)

    def _prove_alive(self, silence: Exception) -> None:
        """Tell a job that is silent from a node that is gone."""
        try:
            self.ask(operations.info())
        except Unavailable as error:
            raise error from silence

    def open_artifact(self, job_id: str, name: str) -> Artifact:
        answers = self._stream("open_artifact", ArtifactOf(job_id, name), CHUNK_CREDIT, PATIENCE)
        with self._translated():
            first = next(answers, None)
        if first is None or first.artifact is None:
            raise Internal("the node did not describe the artifact")
        return Artifact(first.artifact, self._chunks(answers, first.artifact))

    def _chunks(self, answers: Iterator[Answer], info: ArtifactInfo) -> Iterator[bytes]:
        got = 0
        with self._translated():
            for answer in answers:
                data = answer.chunk_base64 or b""
                got += len(data)
                yield data
        if got != info.size:
            raise Unavailable(f"{self._address}: {got} of {info.size} bytes of {info.name} arrived; ask again")

    def _stream(self, operation: str, fields: Struct, credit: int, patience: float) -> Iterator[Answer]:
        """Give the messages of a stream up to its end; one that is left before is ended.

        Raises:
            TimeoutError, Lost: it broke off.
            ServiceError: the node refuses.
        """
        line = self._switchboard.line
        with self._switchboard.opened() as inbox:
            line.send(envelope.write_stream(operation, fields, inbox.id, self._token, credit), inbox.id, None)
            is_open, taken = True, 0
            try:
                while True:
                    answer = inbox.get(patience)
                    if answer.ok is not None:
                        is_open = False
                        answer.check()
                        return
                    yield answer
                    taken += 1
                    if taken == credit // 2:
                        line.send(envelope.write_credit(inbox.id, taken), inbox.id, None)
                        taken = 0
            finally:
                if is_open:
                    self._end_stream(inbox.id)

    def _end_stream(self, request_id: str) -> None:
        try:
            self._switchboard.line.send(envelope.write_credit(request_id, 0), request_id, None)
        except ServiceError:
            return  # the node gives a reader up that grants no credit

    def _ask_again(self, call: Call[Any], timeout: float) -> Answer:
        """Ask; where no answer comes, once more, and where the line breaks, a few times: it was made anew each time."""
        for _ in range(BREAKS):
            try:
                return self._exchange(call, timeout)
            except Lost:
                continue
            except TimeoutError:
                break
        with self._translated():
            return self._exchange(call, timeout)

    def _ask_once(self, call: Call[T], timeout: float) -> T:
        return self._exchange(call, timeout).value(call)

    def _exchange(self, call: Call[Any], timeout: float) -> Answer:
        with self._switchboard.opened() as inbox:
            key = call.fields.key if isinstance(call.fields, JobRequest) else None
            self._switchboard.line.send(envelope.write_request(call, inbox.id, self._token), inbox.id, key)
            return inbox.get(timeout)

    @property
    def _address(self) -> str:
        return self._switchboard.line.address

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (TimeoutError, Lost) as error:
            raise Unavailable(f"{self._address}: {error}") from error


def _keyed(request: JobRequest) -> JobRequest:
    """Give the request a key: a queue may deliver it twice, and a lost answer has us ask again."""
    return request if request.key is not None else msgspec.structs.replace(request, key=uuid.uuid4().hex)
