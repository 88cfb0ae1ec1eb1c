"""pika's protocol on a transport of the event loop's own.

pika's asyncio adapter polls a socket by itself: each frame is a call to the system, and a peer that resets a fresh
connection leaves it neither open nor lost. As with Twisted's adapter, this one gives pika bytes and takes bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from pika.connection import Connection, Parameters
from pika.exceptions import StreamLostError


class StreamConnection(Connection, asyncio.Protocol):
    """A connection that the loop connects: `loop.create_connection(lambda: connection, …)`."""

    def __init__(
        self,
        parameters: Parameters,
        on_open: Callable[[Any], None],
        on_open_error: Callable[[Any, BaseException], None],
        on_close: Callable[[Any, BaseException], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        super().__init__(parameters, on_open, on_open_error, on_close, internal_connection_workflow=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._on_stream_connected()

    def data_received(self, data: bytes) -> None:
        try:
            self._on_data_available(data)
        except Exception as error:  # what cannot be read now cannot be read by waiting for more
            self._error = StreamLostError(f"the broker sent what cannot be read: {error!r}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._error is None or exc is not None:
            text = "the connection was closed" if exc is None else f"the connection broke: {exc}"
            self._error = StreamLostError(text)
        self._on_stream_terminated(self._error)

    def abort(self) -> None:
        """Drop the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def _adapter_emit_data(self, data: bytes) -> None:
        """Send with all else of this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(data)

    def _send(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if self._transport is not None:
            self._transport.write(data)

    def _adapter_connect_stream(self) -> None:
        raise NotImplementedError  # the loop connects

    def _adapter_disconnect_stream(self) -> None:
        self.abort()

    def _adapter_call_later(self, delay: float, callback: Callable[[], Any]) -> object:
        return self._loop.call_later(delay, callback)

    def _adapter_remove_timeout(self, timeout_id: object) -> None:
        cast(asyncio.TimerHandle, timeout_id).cancel()

    def _adapter_add_callback_threadsafe(self, callback: Callable[[], Any]) -> None:
        self._loop.call_soon_threadsafe(callback)
