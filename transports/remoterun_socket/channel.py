"""One blocking connection to a node, on which one caller at a time asks."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from remoterun.dialling import dial
from remoterun.errors import Unavailable
from remoterun.pooled import Lost, no_connection
from remoterun.transport import Target
from remoterun_socket import wire
from remoterun_socket.address import Address
from remoterun_socket.protocol import NOTHING, ProtocolError, ReplyReader

if TYPE_CHECKING:
    pass


class Channel:
    """One connection, on which one caller at a time asks.

    Raises:
        Unavailable: nothing answers at the address.
    """

    def __init__(self, address: Address, target: Target) -> None:
        self._address = address
        self._reader = ReplyReader()
        try:
            self._socket = _connect(address, target)
        except OSError as error:  # an SSLError is one
            raise no_connection(address, error) from error

    def is_quiet(self) -> bool:
        """Tell whether the other side neither closed nor said anything while nothing was asked."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError as error:
            return type(error).__name__ == "SSLWantReadError"  # by its name: `ssl` is slow to import
        return False

    def ask(self, command: bytes, timeout: float | None) -> Any:
        """Send a command and give its reply.

        Raises:
            Lost: the connection broke.
            Unavailable: no answer came within `timeout` seconds.
        """
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(command)
        except TimeoutError as error:
            raise self._too_late(timeout) from error
        except OSError as error:
            return self._last_words(Lost(error, sent=False))
        return self.receive(timeout)

    def receive(self, timeout: float | None) -> Any:
        """Give the next reply.

        Raises:
            Lost: the connection broke.
            Unavailable: no answer came within `timeout` seconds, or it is no RESP.
        """
        self._socket.settimeout(timeout)
        try:
            while (reply := self._reader.next()) is NOTHING:
                data = self._socket.recv(wire.RECEIVE)
                if not data:
                    raise Lost("the connection was closed", sent=True)
                self._reader.feed(data)
        except TimeoutError as error:
            raise self._too_late(timeout) from error
        except OSError as error:
            raise Lost(error, sent=True) from error
        except ProtocolError as error:
            raise no_connection(self._address, error) from error
        return reply

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _last_words(self, lost: Lost) -> Any:
        """Give why the other side closed while it was being sent to, where it said so."""
        with suppress(Lost, Unavailable):
            return self.receive(wire.LAST_WORDS)
        raise lost

    def _too_late(self, timeout: float | None) -> Unavailable:
        return no_connection(self._address, f"no answer within {timeout:g} s")


def _connect(address: Address, target: Target) -> socket.socket:
    if address.scheme == "unix":
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(target.timeout)
            connected.connect(address.path)
        except BaseException:
            connected.close()
            raise
        return connected
    return dial(address.host, address.port, target, tls=address.scheme == "tls")
