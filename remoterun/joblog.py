"""The event log of a live job: numbered without gaps, followed by any number of readers."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

from remoterun.messages import Event, OutputEvent, StateEvent

_OVERHEAD = 200  # bytes that an event costs beside its data


class JobLog:
    """The newest events of a job, in memory; older ones are in the store.

    Parameters:
        last: the number of the newest event so far.
        most: bytes kept in memory of what the store has.
    """

    __slots__ = ("_events", "_first", "_most", "_size", "_stored", "_waiters", "is_closed", "last")

    def __init__(self, last: int = 0, most: int = 2**18) -> None:
        self.last = last
        self.is_closed = False  # its final event is in it
        self._first = last + 1
        self._events: deque[Event] = deque()
        self._size = 0
        self._most = most
        self._stored = last
        self._waiters: list[asyncio.Future[None]] = []

    def append(self, event: Event) -> None:
        """Add the next event and wake who follows."""
        self._events.append(event)
        self._size += _cost(event)
        self.last = event.n
        self.is_closed = is_final(event)
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def unstored(self) -> tuple[Event, ...]:
        """Give the events that the store was not given yet."""
        count = self.last - self._stored
        return tuple(self._events)[len(self._events) - count :] if count else ()

    def mark_stored(self) -> None:
        """Note that the store has everything so far."""
        self._stored = self.last

    def trim(self, most: int | None = None) -> None:
        """Forget events that the store was given, oldest first, until at most `most` bytes are kept."""
        most = self._most if most is None else most
        while self._size > most and self._events and self._events[0].n <= self._stored:
            self._size -= _cost(self._events.popleft())
            self._first += 1

    def after(self, n: int) -> list[Event] | None:
        """Give the events above a number; None where the oldest of them is only in the store."""
        if n + 1 < self._first:
            return None
        if n >= self.last:
            return []
        newest = [*islice(reversed(self._events), self.last - n)]  # a thousand followers want the last one each
        newest.reverse()
        return newest

    async def changed(self) -> None:
        """Wait until an event is added."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


def _cost(event: Event) -> int:
    return _OVERHEAD + (len(event.raw()) if isinstance(event, OutputEvent) else 0)


def is_final(event: Event) -> bool:
    """Tell whether no event of the job comes after this one."""
    return isinstance(event, StateEvent) and event.final
