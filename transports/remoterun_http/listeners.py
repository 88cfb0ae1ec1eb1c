"""The sockets that HTTP is answered on: bound here, or handed over by who started this process."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence

from remoterun.addresses import is_loopback, join
from remoterun.errors import Unavailable

BACKLOG = 2048

_ADOPTED = "fd:"  # an address that is a descriptor: a listening socket that this process was started with


def listening(addresses: Sequence[str], *, in_clear_text: bool) -> list[socket.socket]:
    """Listen on addresses, `host:port`, or take over sockets, `fd:3`.

    Parameters:
        in_clear_text: whether addresses that other machines reach are allowed.

    Raises:
        Unavailable: one is no address, or is not allowed.
        OSError: one cannot be had; the text names it.
    """
    if not in_clear_text:
        for host in hosts_of(addresses):
            _refuse_clear_text(host)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_open(address)) for address in addresses]
        if not in_clear_text:
            for each in sockets:
                if each.family != socket.AF_UNIX:
                    _refuse_clear_text(each.getsockname()[0])
        stack.pop_all()
        return sockets


def hosts_of(addresses: Sequence[str]) -> list[str]:
    """Give the hosts that addresses name."""
    return [_place(address)[0] for address in addresses if not address.startswith(_ADOPTED)]


def _refuse_clear_text(host: str) -> None:
    if not is_loopback(host):
        raise Unavailable(
            f"[http] listen: {host} is reached from other machines; set cert and key, "
            "or allow clear text with insecure_listen"
        )


def url(scheme: str, listener: socket.socket) -> str:
    """Give the URL of a listening socket."""
    if listener.family == socket.AF_UNIX:
        return f"{scheme}+unix://{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{join(host, port)}"


def _open(address: str) -> socket.socket:
    if address.startswith(_ADOPTED):
        return _adopt(address)
    return _listen(*_place(address))


def _adopt(address: str) -> socket.socket:
    number = address.removeprefix(_ADOPTED)
    try:
        if not stat.S_ISSOCK(os.fstat(int(number)).st_mode):
            raise ValueError("it is no socket")
        adopted = socket.socket(fileno=int(number))
        is_listening = adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except (ValueError, OSError) as error:
        raise Unavailable(f"[http] listen: {address} was not handed over: {error}") from error
    if not is_listening:
        raise Unavailable(f"[http] listen: {address} is a socket that does not listen")
    adopted.set_inheritable(False)
    adopted.setblocking(False)
    return adopted


def _place(address: str) -> tuple[str, int]:
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise Unavailable(f"[http] listen: {address!r} is no address; write it like 127.0.0.1:7461 or [::1]:7461")
    return host, int(port)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named: else half of all answers wait for a delayed ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)  # SO_REUSEADDR lets two bind: only one can listen
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        where = join(host, port)
        if error.errno == errno.EADDRINUSE:
            text = f"{where} is in use; stop what holds it, or set [http] listen"
        else:
            text = f"{where} cannot be listened on: {error.strerror or error}; set [http] listen"
        raise OSError(error.errno, text) from error
    return listener
