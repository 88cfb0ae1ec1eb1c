"""A job's events as a stream: server-sent events, or lines of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TypeVar

from remoterun.errors import ServiceError, Unavailable
from remoterun.messages import Event, encode

T = TypeVar("T")

KEEPALIVE = 15.0  # seconds; proxies close what is silent for a minute
_LAST = 0.1  # seconds for what is on its way when the server stops: the ends of jobs that it waited for
STOPPING = Unavailable("the node stops; resume from the last event once it is back", retry_after=5)


class Ending:
    """Tells streams and waits that the server stops: they would hold it up to the end of their jobs."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End every stream and wait."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether the server stops."""
        return self._stopping.is_set()

    async def follow(self, items: AsyncIterator[T], silence: float | None = None) -> AsyncIterator[T | None]:
        """Iterate; None comes after each `silence` seconds without an item.

        Raises:
            Unavailable: the server stops.
        """
        stop = asyncio.ensure_future(self._stopping.wait())
        following: asyncio.Future[T] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(_next(items))
                await asyncio.wait((following, stop), timeout=silence, return_when=asyncio.FIRST_COMPLETED)
                if stop.done() and not following.done():
                    await asyncio.wait((following,), timeout=_LAST)
                if following.done():
                    try:
                        item = following.result()
                    except StopAsyncIterationError:
                        return
                    following = None
                    yield item
                elif stop.done():
                    raise STOPPING
                else:
                    yield None
        finally:
            stop.cancel()
            if following is not None:
                following.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await following
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()


class StopAsyncIterationError(Exception):
    """The end of an iterator, in a form that a future can hold."""


async def _next(items: AsyncIterator[T]) -> T:
    try:
        return await anext(items)
    except StopAsyncIteration as end:
        raise StopAsyncIterationError from end


async def as_sse(events: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    """Encode as server-sent events: the id is the number, the event the kind, the data the JSON.

    A refusal under way (a revoked token, a stopping node) is the event `problem`, and the last one.
    """
    try:
        async for event in events:
            if event is None:
                yield b": still there\n\n"
            else:
                kind = type(event).__struct_config__.tag
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.n, str(kind).encode(), encode(event))
    except ServiceError as error:
        yield b"event: problem\ndata: %s\n\n" % encode(error.body())


async def as_lines(events: AsyncIterator[Event | None]) -> AsyncIterator[bytes]:
    """Encode as lines of JSON; empty lines keep the connection alive, a refusal under way is a last line `error`."""
    try:
        async for event in events:
            yield b"\n" if event is None else encode(event) + b"\n"
    except ServiceError as error:
        yield encode({"error": error.body()}) + b"\n"
