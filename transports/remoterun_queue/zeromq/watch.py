"""A ZeroMQ socket on an event loop, without zmq.asyncio, which is several times slower."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import zmq

logger = logging.getLogger(__name__)

_BURST: Final = 64  # messages received before others on the loop have their turn


class Watch:
    """Calls back while a socket has something to receive.

    The socket's descriptor only says that something has changed since it was last looked at: a send, too, may use
    that up. So whoever sends has the socket looked at again.

    Parameters:
        socket: what is watched; `close` stops that and leaves the socket open.
        receive: receives one message, without waiting.
        woken: called each time that something changed, messages or room for them.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], receive: Callable[[], None], woken: Callable[[], None] | None = None
    ) -> None:
        self._socket = socket
        self._receive = receive
        self._woken = woken
        self._loop = asyncio.get_running_loop()
        self._looks_again = False
        self._is_held = False
        self._is_closed = False
        self._loop.add_reader(socket.FD, self._look)
        self.look_again()

    def look_again(self) -> None:
        """Look at the socket once more, soon."""
        if not self._looks_again:
            self._looks_again = True
            self._loop.call_soon(self._look_again)

    def hold(self) -> None:
        """Receive nothing more for now."""
        self._is_held = True

    def release(self) -> None:
        """Receive again."""
        if self._is_held:
            self._is_held = False
            self.look_again()

    def close(self) -> None:
        """Stop watching; calling it twice is allowed."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._socket.FD)

    def _look_again(self) -> None:
        self._looks_again = False
        self._look()

    def _look(self) -> None:
        for _ in range(_BURST):
            if self._is_closed:
                return
            events: Any = self._socket.get(zmq.EVENTS)
            if self._woken is not None:
                self._woken()
            if self._is_held or not events & zmq.POLLIN:
                return
            try:
                self._receive()
            except Exception:  # the next message is someone else's
                logger.exception("a message was not received")
        self.look_again()
