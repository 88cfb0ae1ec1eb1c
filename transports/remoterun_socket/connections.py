"""All connections of a server half: how many there may be, what they share, how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from remoterun.service import AsyncService
from remoterun_socket.connection import Connection

RECEIVE: Final = 64 * 1024  # bytes taken from the kernel at once


@dataclass(frozen=True, slots=True)
class Terms:
    """What every connection is held to."""

    service: AsyncService
    addresses: Callable[[], Mapping[str, tuple[str, ...]]]  # what every transport took
    connections: int  # at once
    max_request: int  # bytes of a command
    auth_timeout: float  # seconds
    pipeline: int  # commands under way on one connection
    write_buffer: int  # bytes that wait for a slow reader
    stall: float  # seconds for which such a reader may take nothing


class Connections:
    """The open connections of a server half."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.scratch = memoryview(bytearray(RECEIVE))  # where all receive, one at a time; nothing stays there
        self._numbers = count(1)
        self._open: set[Connection] = set()
        self._kept: set[asyncio.Future[Any]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> int | None:
        """Count a connection in and give its number, or None if there are too many."""
        if len(self._open) >= self.terms.connections:
            return None
        self._open.add(connection)
        self._empty.clear()
        return next(self._numbers)

    def forget(self, connection: Connection) -> None:
        """Count a connection out."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()

    def keep(self, future: asyncio.Future[Any]) -> None:
        """Hold what must go on though its caller may go: the loop itself holds tasks only weakly."""
        self._kept.add(future)
        future.add_done_callback(self._kept.discard)

    async def stop(self, grace: float) -> None:
        """Let what is under way end within `grace` seconds, then close every connection."""
        for connection in list(self._open):
            connection.stop()
        try:
            await asyncio.wait_for(self._empty.wait(), grace)
        except TimeoutError:
            for connection in list(self._open):
                connection.abort()
            await self._empty.wait()
