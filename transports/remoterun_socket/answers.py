"""What a command answers, before it is known when: at once, later, or piece by piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from remoterun.errors import Internal, ServiceError
from remoterun.messages import Job, encode
from remoterun.service import AsyncService, AsyncSession, Origin
from remoterun.states import State
from remoterun_socket.protocol import error


class Caller:
    """Who speaks on a connection, and how it wants to be answered."""

    __slots__ = ("client_name", "is_trusted", "number", "origin", "resp3", "service", "session")

    def __init__(self, service: AsyncService, origin: Origin, number: int, is_trusted: bool = False) -> None:
        self.service = service
        self.origin = origin
        self.is_trusted = is_trusted  # whether it may call in others' names: a gateway of the node's own user
        self.number = number  # of the connection, from 1
        self.session: AsyncSession | None = None
        self.resp3 = False
        self.client_name = b""

    def proved(self) -> AsyncSession:
        """Give the session; commands that need one run only where there is one."""
        if self.session is None:
            raise Internal("a command ran without a session")
        return self.session


@dataclass(frozen=True, slots=True)
class Later:
    """The answer of something that takes its time: an awaitable, and how its value is told.

    `render` gives the reply, or a coroutine that reads more to make it. What `acts` goes on though its caller
    has gone.
    """

    awaitable: Awaitable[Any]
    render: Callable[[Caller, Any], bytes | Coroutine[Any, Any, bytes]]
    refuse: Callable[[ServiceError], bytes]
    acts: bool = True


class Stream(ABC):
    """An answer in pieces, sent when its turn has come."""

    @abstractmethod
    def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give the pieces, the end marker included. May raise any `ServiceError`."""

    @abstractmethod
    def broken(self, error: ServiceError) -> bytes | None:
        """Give the reply that ends the stream early, or None where nothing can: the connection is closed."""


Answer = bytes | Later | Stream | Coroutine[Any, Any, bytes]


def refusal(failure: ServiceError) -> bytes:
    """Encode a refused call for people and Redis clients: one line, with the bad fields and when to retry."""
    text = failure.message
    for field in failure.fields:
        if field.field not in text:
            text = f"{text}; {field.field}: {field.message}"
    if failure.retry_after is not None:
        text = f"{text}; retry after {failure.retry_after:g} s"
    return error(code(failure), text)


def exact_refusal(failure: ServiceError) -> bytes:
    """Encode a refused call with everything that it says, as JSON."""
    return error(code(failure), encode(failure.body()).decode())


def code(failure: ServiceError) -> str:
    """Give an error's code on this wire: its own in capitals, except that Redis clients know NOAUTH."""
    return "NOAUTH" if failure.code == "unauthenticated" else failure.code.upper()


_ENDED_BADLY = {
    State.FAILED: "FAILED",
    State.TIMED_OUT: "TIMEDOUT",
    State.CANCELLED: "CANCELLED",
    State.LOST: "LOST",
}


def job_failed(job: Job) -> bytes:
    """Encode the answer of a job that ended otherwise than well: one line."""
    return error(_ENDED_BADLY.get(job.state, "INTERNAL"), job.failure())
