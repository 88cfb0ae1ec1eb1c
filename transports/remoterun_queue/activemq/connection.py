"""stomp.py's connection, with what it lacks: no silence without end, one address, and TLS that notices its end.

Its own `attempt_connection` retries in the calling thread, hides why it failed, adds 127.0.0.1 without TLS to what it
was told, and sets no limit to a send that the other side does not take.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from remoterun_queue.activemq.address import Address


@contextmanager
def _without_name_service() -> Iterator[None]:
    """Keep stomp.py from asking for this host's names when it is imported, which can take seconds."""
    name = "STOMP_SKIP_HOSTNAME_SCAN"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


with _without_name_service():
    from stomp.connect import BaseConnection
    from stomp.protocol import Protocol12
    from stomp.transport import Transport
    from stomp.utils import PollableQueue

# It logs whole frames, tokens among them, and what it logs as an error is reported here already.
logging.getLogger("stomp.py").setLevel(logging.CRITICAL + 1)

_AT_ONCE = 65536  # bytes

# ActiveMQ writes a frame in several pieces and leaves Nagle's algorithm on: each would wait 40 ms for a delayed ACK.
# Linux forgets that it is to acknowledge at once, so it is told so after every read.
_QUICK: int | None = getattr(socket, "TCP_QUICKACK", None)


class _Transport(Transport):  # type: ignore[misc]  # stomp.py has no types
    """The socket and its reading thread."""

    def __init__(self, address: Address, timeout: float, stall: float) -> None:
        super().__init__([(address.host, address.port)], auto_decode=False, recv_bytes=_AT_ONCE)
        self._address = address
        self._timeout = timeout
        self._stall = stall

    def attempt_connection(self) -> None:
        """Connect once.

        Raises:
            OSError: with the reason.
        """
        connected = socket.create_connection((self._address.host, self._address.port), self._timeout)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            limit = struct.pack("ll", int(self._stall), int(self._stall % 1 * 1e6))
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            if self._address.is_tls:
                connected = _context(self._address).wrap_socket(connected, server_hostname=self._address.host)
                self._write_in_reading_thread(connected)  # OpenSSL's connections are for one thread at a time
            connected.setblocking(self.blocking)
        except BaseException:
            connected.close()
            raise
        self.socket = connected
        self.current_host_and_port = (self._address.host, self._address.port)

    def _write_in_reading_thread(self, connected: socket.socket) -> None:
        self.send_queue = PollableQueue()
        self.sel = selectors.DefaultSelector()
        self.sel.register(self.send_queue, selectors.EVENT_READ)
        self.sel.register(connected, selectors.EVENT_READ)
        self.blocking = False

    def receive(self) -> Any:
        """Read what is there."""
        data = super().receive() if self.blocking else self._receive_tls()
        if _QUICK is not None and data:
            self.socket.setsockopt(socket.IPPROTO_TCP, _QUICK, 1)
        return data

    def _receive_tls(self) -> bytes:
        """Read; stomp.py takes the end of TLS for "nothing yet", and would ask again without pause."""
        try:
            data: bytes = self.socket.recv(_AT_ONCE)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:
            data = b""
        if not data:
            self.shutdown_queue()  # from here on an empty read is the end
        return data


class Connection(BaseConnection, Protocol12):  # type: ignore[misc]
    """One STOMP 1.2 connection to one address; nothing happens before `open`.

    Parameters:
        timeout: seconds for connecting.
        heartbeat: seconds between two signs of life, each way.
    """

    def __init__(self, address: Address, *, timeout: float, heartbeat: float) -> None:
        BaseConnection.__init__(self, _Transport(address, timeout, 2 * heartbeat))
        interval = max(1, round(heartbeat * 1000))
        Protocol12.__init__(self, self.transport, heartbeats=(interval, interval))
        self._address = address

    def open(self) -> None:
        """Connect and greet; the answer comes to the listener.

        Raises:
            OSError: nothing answers, or its certificate is not trusted.
        """
        self.transport.start()
        self.connect(self._address.login, self._address.passcode)

    def cut(self) -> None:
        """Break the line, from whichever thread; the reading thread then ends."""
        connected = self.transport.socket
        if connected is not None:
            with suppress(OSError):  # it is cut already
                connected.shutdown(socket.SHUT_RDWR)


def _context(address: Address) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=address.ca)
    if address.cert:
        context.load_cert_chain(address.cert, address.key)
    return context
