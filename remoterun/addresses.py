"""Addresses as people write them, `host:port`; pure."""

from __future__ import annotations

import ipaddress

from remoterun.errors import Invalid


def split(text: str, default_port: int) -> tuple[str, int]:
    """Split `host:port`, `[::1]:port` or a bare host.

    Raises:
        Invalid: the port is no number from 0 to 65535, or there is no host.
    """
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Invalid(f"{text!r} is no address; write it like 127.0.0.1:{default_port}, or [::1]:{default_port}")
    return host, int(port)


def join(host: str, port: int) -> str:
    """Write a host and a port as one text."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the host; a name other than `localhost` may mean anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_credentials(url: str) -> str:
    """Give a URL without the name and password that it may hold, for logs and messages."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
