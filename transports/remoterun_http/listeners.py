"""The addresses that HTTP is answered on, and the URLs made of them."""

from __future__ import annotations

from collections.abc import Sequence

from remoterun.addresses import join
from remoterun.adopting import is_handed
from remoterun.errors import Invalid
from remoterun.listening import Listener, listen_all


async def listening(addresses: Sequence[str], *, in_clear_text: bool) -> list[Listener]:
    """Listen on addresses, `host:port`, or take over sockets, `fd:3` and `fd:NAME`.

    Parameters:
        in_clear_text: whether addresses that other machines reach are allowed.

    Raises:
        Unavailable: one is no address, or is not allowed.
        OSError: one cannot be had; the text names it.
    """
    return await listen_all(addresses, "http", _place, in_clear_text=in_clear_text)


def hosts_of(addresses: Sequence[str]) -> list[str]:
    """Give the hosts that addresses name."""
    return [_place(address)[0] for address in addresses if not is_handed(address)]


def url(scheme: str, listener: Listener) -> str:
    """Give the URL of a listening socket."""
    if listener.is_unix:
        return f"{scheme}+unix://{listener.path}"
    host, port = listener.bound.getsockname()[:2]
    return f"{scheme}://{join(host, port)}"


def _place(address: str) -> tuple[str, int]:
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise Invalid(f"{address!r} is no address; write it like 127.0.0.1:7461 or [::1]:7461")
    return host, int(port)
