"""Listening on the addresses of a setting, for transports whose server takes a socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remoterun.addresses import is_loopback, join
from remoterun.adopting import adopt, is_handed
from remoterun.errors import Invalid, Unavailable

BACKLOG = 2048  # connections that the kernel holds until they are accepted


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens, and the host that it was asked for.

    `host` is the socket's own where it was handed over, and empty for a Unix socket.
    """

    bound: socket.socket
    host: str

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket."""
        return self.bound.family == socket.AF_UNIX

    @property
    def port(self) -> int:
        """The port that it took."""
        port: int = self.bound.getsockname()[1]
        return port

    @property
    def path(self) -> str:
        """The path of a Unix socket."""
        return str(self.bound.getsockname())


async def listen_all(
    addresses: Sequence[str], section: str, parse: Callable[[str], tuple[str, int]], *, in_clear_text: bool
) -> list[Listener]:
    """Listen on addresses, `host:port`, or take over sockets, `fd:3` and `fd:NAME`.

    Parameters:
        section: of the configuration, which a text about a failure names.
        parse: gives host and port of an address, or raises Invalid.
        in_clear_text: whether addresses that other machines reach are allowed.

    Raises:
        Unavailable: one is no address, or is not allowed, or was not handed over.
        OSError: one cannot be had; the text names it and the setting.
    """
    with contextlib.ExitStack() as stack:
        found = []
        for address in addresses:
            for listener in await _open(address, section, parse, in_clear_text=in_clear_text):
                stack.enter_context(listener.bound)
                found.append(listener)
        stack.pop_all()
    return found


async def _open(
    address: str, section: str, parse: Callable[[str], tuple[str, int]], *, in_clear_text: bool
) -> list[Listener]:
    if is_handed(address):
        adopted = [Listener(bound, _host_of(bound)) for bound in adopt(address, section)]
        for listener in adopted:
            if not in_clear_text and not listener.is_unix:
                _refuse_beyond_loopback(f"{address} ({join(listener.host, listener.port)})", listener.host, section)
        return adopted
    try:
        host, port = parse(address)
    except Invalid as error:
        raise Unavailable(f"[{section}] listen: {error.message}") from error
    if not in_clear_text:
        _refuse_beyond_loopback(address, host, section)
    return [Listener(await _listen(host, port, section), host)]


def _host_of(bound: socket.socket) -> str:
    return "" if bound.family == socket.AF_UNIX else str(bound.getsockname()[0])


def _refuse_beyond_loopback(address: str, host: str, section: str) -> None:
    if not is_loopback(host):
        raise Unavailable(
            f"[{section}] listen: {address} is reached from other machines and would go without TLS: "
            "set cert and key, or allow it with insecure_listen"
        )


async def _listen(host: str, port: int, section: str) -> socket.socket:
    name = join(host, port)
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(f"{name} is no address of this machine ({error.strerror}); set [{section}] listen") from error
    # asyncio sets TCP_NODELAY only where the protocol is named: else half of all answers wait for a delayed ACK.
    family, kind, protocol, _, address = infos[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # what is accepted inherits it: callers may die
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # SO_REUSEADDR lets two bind: only one can listen
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            text = f"{name} is in use; stop what holds it, or set [{section}] listen"
        else:
            text = f"{name} cannot be listened on: {error.strerror or error}; set [{section}] listen"
        raise OSError(error.errno, text) from error
    listener.setblocking(False)
    return listener
