"""The addresses that sockets are bound to, in listening sockets of our own, which libzmq takes over."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import zmq

from remoterun.addresses import is_loopback, join, split
from remoterun.errors import Invalid, Unavailable
from remoterun_queue.zeromq.address import DEFAULT_PORT, Address

_BACKLOG: Final = 1024  # connections that the kernel holds until they are accepted


def places(name: str, texts: Sequence[str], *, is_safe: bool) -> list[tuple[str, int]]:
    """Give the hosts and ports that a setting lists.

    Parameters:
        name: of the setting.
        is_safe: whether addresses beyond loopback are allowed.

    Raises:
        Unavailable: one is no address, or is not allowed.
    """
    found = []
    for text in texts:
        try:
            host, port = split(text, DEFAULT_PORT)
        except Invalid as error:
            raise Unavailable(f"[zeromq] {name}: {error.message}") from error
        if not is_safe and not is_loopback(host):
            raise Unavailable(
                f"[zeromq] {name}: {text} is reached from other machines and would go without CURVE: set curve_secret "
                "and curve_clients, or allow clear text with insecure_listen"
            )
        found.append((host, port))
    return found


async def bind(bound: zmq.Socket[bytes], name: str, host: str, port: int) -> str:
    """Bind a socket to an address, and give that as a URL.

    Raises:
        OSError: it cannot be had; the text names it and the setting `name`.
    """
    with _listening(name, host, port, await _resolve(name, host, port)) as listener:
        place = listener.getsockname()
        bound.setsockopt(zmq.USE_FD, os.dup(listener.fileno()))
        bound.bind(f"tcp://{join(place[0], place[1])}")
        bound.setsockopt(zmq.USE_FD, -1)
        return str(Address(host, place[1]))


async def _resolve(name: str, host: str, port: int) -> tuple[int, tuple[str, int]]:
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        where = join(host, port)
        raise OSError(f"{where} is no address of this machine ({error.strerror}); set [zeromq] {name}") from error
    family, _, _, _, address = infos[0]
    return family, (str(address[0]), int(address[1]))


@contextmanager
def _listening(name: str, host: str, port: int, resolved: tuple[int, tuple[str, int]]) -> Iterator[socket.socket]:
    family, address = resolved
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            where = join(host, port)
            if error.errno == errno.EADDRINUSE:
                text = f"{where} is in use; stop what holds it, or set [zeromq] {name}"
            else:
                text = f"{where} cannot be had: {error.strerror or error}; set [zeromq] {name}"
            raise OSError(error.errno, text) from error
        yield listener
