"""The way out to the broker, whichever connection that is at the time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from remoterun_queue.activemq.bridge import Bridge, LinkLost


class Outlet:
    """Sends messages; while there is no connection, it waits for the next."""

    def __init__(self) -> None:
        self._bridge: Bridge | None = None
        self._is_open = asyncio.Event()

    def opened(self, bridge: Bridge) -> None:
        """Use this connection from now on."""
        self._bridge = bridge
        self._is_open.set()

    def closed(self) -> None:
        """Wait for another connection."""
        self._bridge = None
        self._is_open.clear()

    async def send_now(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a message over the present connection.

        Raises:
            LinkLost: there is none, or it broke: nobody knows whether the broker has the message.
            Refused: the broker does not take it.
        """
        if self._bridge is None:
            raise LinkLost("there is no connection")
        await self._bridge.send(destination, body, headers)

    async def send(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a message; it is the broker's once this returns. One whose receipt was lost is sent again.

        Raises:
            Refused: the broker does not take it.
        """
        while True:
            await self._is_open.wait()
            assert self._bridge is not None
            try:
                return await self._bridge.send(destination, body, headers)
            except LinkLost:
                await asyncio.sleep(0.05)  # until whoever keeps the connection has noticed, too
