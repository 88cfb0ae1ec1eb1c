"""What can be done with a connection that libzmq owns: look at its descriptor, and cut it."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import Any

_AT_ONCE = struct.pack("ii", 1, 0)  # linger, for no time
_BYTES_RECEIVED = slice(128, 136)  # in Linux's struct tcp_info, since 4.1


def peer_name(fd: int) -> Any:
    """Give the address at the other end, or None where there is no connection any more."""
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        return connection.getpeername()
    except OSError:
        return None
    finally:
        connection.detach()


def cut(fd: int, name: Any) -> None:
    """Shut a connection down, if its descriptor is still that of the peer of this name.

    libzmq closes the descriptor when it likes, and another file may get its number: a duplicate stays what it is.
    """
    if name is None or peer_name(fd) != name:
        return
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
        if connection.getpeername() == name:
            # What is on its way ends with it: else a peer that still sends may not learn of it for a minute.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            connection.shutdown(socket.SHUT_RDWR)


def bytes_received(fd: int) -> int:
    """Give how many bytes a connection has received, as far as the system tells; 0: it does not."""
    try:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=fd)
    except OSError:
        return 0
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.stop)
    except (OSError, AttributeError):  # no TCP, or no Linux
        return 0
    finally:
        connection.detach()
    return int.from_bytes(info[_BYTES_RECEIVED], "little") if len(info) == _BYTES_RECEIVED.stop else 0
