"""Accepting connections one at a time, so that processes that share a listening socket share the connections.

An event loop's own server accepts all that wait as soon as it wakes: of several processes the first to wake gets a
whole burst, and callers that keep their connections stay with it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

logger = logging.getLogger(__name__)

_OUT_OF_FILES = 0.1  # seconds without accepting when no descriptor is left


class Acceptor:
    """Accepts connections on a listening socket.

    Parameters:
        listener: does not block.
        make: makes the protocol of a connection.
        tls: the context of its handshake, or None.
        handshake: seconds that the handshake, and its counterpart at the end, may take.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None,
        handshake: float | None,
    ) -> None:
        self._listener = listener
        self._make = make
        self._tls = tls
        self._handshake = handshake
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept nothing more, and give up handshakes under way."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for task in self._opening:
            task.cancel()

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # another process was quicker, or the caller has gone
        except OSError as error:
            logger.error("no connection can be accepted: %s", error)
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(_OUT_OF_FILES, self._go_on)
            return
        connected.setblocking(False)
        task = self._loop.create_task(self._open(connected))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _go_on(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    async def _open(self, connected: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make,
                connected,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake,
                ssl_shutdown_timeout=self._handshake,
            )
        except OSError:  # of the handshake: the caller was told
            connected.close()
