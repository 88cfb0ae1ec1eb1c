"""Listening on an address, for transports whose server takes a socket."""

from __future__ import annotations

import asyncio
import errno
import socket

from remoterun.addresses import join


async def listen(host: str, port: int, section: str, backlog: int) -> socket.socket:
    """Give a socket that listens on an address.

    Parameters:
        section: of the configuration, which a text about a failure names.

    Raises:
        OSError: it cannot be had; the text names the address and the setting.
    """
    name = join(host, port)
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(f"{name} is no address of this machine ({error.strerror}); set [{section}] listen") from error
    family, kind, protocol, _, address = infos[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # what is accepted inherits it: callers may die
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(backlog)  # SO_REUSEADDR lets two bind: only one can listen
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            text = f"{name} is in use; stop what holds it, or set [{section}] listen"
        else:
            text = f"{name} cannot be had: {error.strerror}; set [{section}] listen"
        raise OSError(error.errno, text) from error
    listener.setblocking(False)
    return listener
