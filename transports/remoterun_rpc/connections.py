"""All connections of a server half: how many there may be, what they share, how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from remoterun.service import AsyncService
from remoterun_rpc.connection import Connection

RECEIVE: Final = 64 * 1024  # bytes taken from the kernel at once


@dataclass(frozen=True, slots=True)
class Terms:
    """What every connection is held to."""

    service: AsyncService
    connections: int  # at once
    calls: int  # under way on one connection
    max_request: int  # bytes of a message
    auth_timeout: float  # seconds
    unread: int  # bytes sent to a caller that it has not taken
    stall: float  # seconds for which such a caller may take nothing
    certificates: Mapping[str, str]  # whom a client certificate of this name stands for


class Connections:
    """The open connections of a server half."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.scratch = memoryview(bytearray(RECEIVE))  # where all receive, one at a time; nothing stays there
        self._open: set[Connection] = set()
        self._strangers: dict[Connection, None] = {}  # that have proved nothing, the oldest first
        self._kept: set[asyncio.Future[Any]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Count a connection in, in place of the oldest stranger where there is no room; False where there is none."""
        if len(self._open) >= self.terms.connections:
            if not self._strangers:
                return False
            oldest = next(iter(self._strangers))
            self.forget(oldest)
            oldest.abort()
        self._open.add(connection)
        self._empty.clear()
        return True

    def prove(self, connection: Connection, proved: bool) -> None:
        """Note whether a connection has proved who speaks."""
        if proved:
            self._strangers.pop(connection, None)
        else:
            self._strangers.setdefault(connection)

    def forget(self, connection: Connection) -> None:
        """Count a connection out; it may be out already."""
        self._open.discard(connection)
        self._strangers.pop(connection, None)
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
