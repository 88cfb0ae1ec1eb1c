"""Answers of many messages, sent no faster than their readers grant credit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable
from contextlib import aclosing

from remoterun.errors import Busy, ServiceError, Unavailable
from remoterun.operations import ArtifactOf, EventsAfter
from remoterun.service import AsyncSession
from remoterun_queue import envelope
from remoterun_queue.envelope import Request, RequestId
from remoterun_queue.exchange import Exchange

STALL = 60.0  # seconds without credit after which a reader is given up

_MOST = 4096  # streams at once; each holds what its job sends until its reader takes it

_Key = tuple[Hashable, RequestId]


class _Credit:
    """How many more messages a reader takes; None: any number."""

    def __init__(self, n: int | None) -> None:
        self._left = n
        self._granted = asyncio.Event()

    def grant(self, n: int) -> None:
        if self._left is not None:
            self._left += n
            self._granted.set()

    async def take(self) -> None:
        """Wait until there is credit for a message, and take it.

        Raises:
            TimeoutError: the reader granted none for too long.
        """
        if self._left is None:
            return
        while not self._left:
            self._granted.clear()
            async with asyncio.timeout(STALL):
                await self._granted.wait()
        self._left -= 1


class Streams:
    """The streams that are being read."""

    def __init__(self) -> None:
        self._open: dict[_Key, tuple[_Credit, asyncio.Task[None]]] = {}

    def grant(self, reader: Hashable, request_id: RequestId, n: int) -> None:
        """Let `n` more messages of a stream be sent; 0 ends it. Streams that are not there have ended."""
        found = self._open.get((reader, request_id))
        if found is None:
            return
        credit, task = found
        if n:
            credit.grant(n)
        else:
            task.cancel()

    async def send(self, exchange: Exchange, request: Request, session: AsyncSession) -> None:
        """Answer a request with its messages and the end, or with the error that broke it off.

        Raises:
            Busy: too many streams are being read.
            Gone: the reader is.
        """
        if len(self._open) >= _MOST:
            raise Busy(f"{_MOST} streams are being read from this node", retry_after=5)
        task = asyncio.ensure_future(_send(exchange, request, session, credit := _Credit(request.credit)))
        key = (exchange.reader, request.id)
        self._open[key] = (credit, task)
        try:
            await asyncio.wait([task])
        finally:
            if self._open.get(key) == (credit, task):
                del self._open[key]
            task.cancel()
        if not task.cancelled():
            task.result()


async def _send(exchange: Exchange, request: Request, session: AsyncSession, credit: _Credit) -> None:
    messages = _events if isinstance(request.fields, EventsAfter) else _chunks
    last = ""
    try:
        async with aclosing(messages(request, session)) as bodies:
            async for hint, body in bodies:
                last = hint
                await credit.take()
                await exchange.answer(body)
        await exchange.answer(envelope.end(request.id))
    except TimeoutError:
        error = Unavailable(f"the reader granted no credit for {STALL:g} s{last}")
        await exchange.answer(envelope.refusal(request.id, error))
    except ServiceError as error:
        await exchange.answer(envelope.refusal(request.id, _with_hint(error, last)))


def _with_hint(error: ServiceError, last: str) -> ServiceError:
    if error.code != "unavailable":
        return error
    return Unavailable(f"{error.message}{last}", retry_after=error.retry_after)


async def _events(request: Request, session: AsyncSession) -> AsyncGenerator[tuple[str, bytes], None]:
    asked: EventsAfter = request.fields
    events = session.events(asked.job, asked.after)
    try:
        async for event in events:
            yield f"; resume with after = {event.n - 1}", envelope.event(request.id, event)
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


async def _chunks(request: Request, session: AsyncSession) -> AsyncGenerator[tuple[str, bytes], None]:
    asked: ArtifactOf = request.fields
    opened = await session.open_artifact(asked.job, asked.name)
    try:
        yield "", envelope.artifact(request.id, opened.info)
        async for chunk in opened.chunks:
            yield "", envelope.chunk(request.id, chunk)
    finally:
        close = getattr(opened.chunks, "aclose", None)
        if close is not None:
            await close()
