"""Answers in pieces: a job's events, and the bytes of an artifact, given to a callback of the caller's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from remoterun.errors import ServiceError, Unavailable
from remoterun.messages import encode
from remoterun.service import AsyncSession
from remoterun_rpc.protocol import Reference, Unboxed

Send = Callable[[str | bytes], Awaitable[None]]


class Stream(ABC):
    """An answer in pieces.

    Parameters:
        callback: what is called with each piece, an object of the caller's.
    """

    def __init__(self, callback: Reference) -> None:
        self.callback = callback

    @abstractmethod
    async def deliver(self, send: Send) -> Unboxed:
        """Send the pieces, and give the value that answers the call. May raise any `ServiceError`."""

    def broken(self, failure: ServiceError) -> ServiceError:
        """Give the error that ends the stream early."""
        return failure


class EventStream(Stream):
    """A job's events, from a number on."""

    def __init__(self, session: AsyncSession, callback: Reference, job_id: str, after: int) -> None:
        super().__init__(callback)
        self._session = session
        self._job_id = job_id
        self._last = after

    async def deliver(self, send: Send) -> int:
        async with AsyncExitStack() as stack:
            events = self._session.events(self._job_id, self._last)
            close_with(stack, events)
            async for event in events:
                await send(encode(event).decode())
                self._last = event.n
        return self._last

    def broken(self, failure: ServiceError) -> ServiceError:
        if not isinstance(failure, Unavailable):
            return failure
        hint = f'resume with events("{self._job_id}", callback, {self._last})'
        return Unavailable(f"{failure.message}; {hint}", retry_after=failure.retry_after)


class ArtifactStream(Stream):
    """The bytes of an artifact.

    Parameters:
        described: whether the first piece is a text that says what the file is.
    """

    def __init__(
        self, session: AsyncSession, callback: Reference, job_id: str, name: str, described: bool = False
    ) -> None:
        super().__init__(callback)
        self._session = session
        self._job_id = job_id
        self._name = name
        self._described = described

    async def deliver(self, send: Send) -> str:
        opened = await self._session.open_artifact(self._job_id, self._name)
        info = encode(opened.info).decode()
        if self._described:
            await send(info)
        async with AsyncExitStack() as stack:
            close_with(stack, opened.chunks)
            async for chunk in opened.chunks:
                await send(chunk)
        return info


def close_with(stack: AsyncExitStack, iterator: AsyncIterator[Any]) -> None:
    """Close an iterator with the stack, where it can be closed: what it holds is let go of at once."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        stack.push_async_callback(close)
