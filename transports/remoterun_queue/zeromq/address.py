"""Addresses as people write them: `host:port`, and `zmq://host:port?server_key=FILE&key=FILE`; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from remoterun.addresses import join, split
from remoterun.errors import Invalid

DEFAULT_PORT: Final = 7463


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node is, and the files of the CURVE keys to meet it with; empty: none."""

    host: str
    port: int
    server_key: str = ""
    key: str = ""

    def __str__(self) -> str:
        return f"zmq://{join(self.host, self.port)}"


def parse_url(url: str) -> Address:
    """Parse `zmq://host:port`, with the names of key files as its query.

    Raises:
        Invalid: it is no such URL.
    """
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    if scheme != "zmq" or not place:
        raise Invalid(f"{url!r} is no address of ZeroMQ; write it like zmq://127.0.0.1:{DEFAULT_PORT}")
    options = dict(parse_qsl(query, keep_blank_values=True))
    host, port = split(place.rstrip("/"), DEFAULT_PORT)
    address = Address(host, port, options.pop("server_key", ""), options.pop("key", ""))
    if options:
        raise Invalid(f"{url!r}: there is no option {', '.join(options)}; there are server_key and key")
    if address.key and not address.server_key:
        raise Invalid(f"{url!r}: to use a key, name the node's public key too: ?server_key=FILE&key=FILE")
    return address
