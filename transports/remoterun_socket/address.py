"""Addresses as people write them, `host:port` and the URLs made of them; pure."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from remoterun.addresses import join, split
from remoterun.errors import Invalid

DEFAULT_PORT: Final = 7460


class Address(Struct, frozen=True):
    """Where a socket is: a host and a port, or the path of a Unix socket."""

    scheme: Literal["tcp", "tls", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        return f"{self.scheme}://{join(self.host, self.port)}"


def parse_url(url: str) -> Address:
    """Parse `tcp://host:port`, `tls://host:port` or `unix:///path`.

    Raises:
        Invalid: it is none of these.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return Address("unix", path=rest)
    if scheme in ("tcp", "tls") and rest:
        host, port = split(rest.rstrip("/"), DEFAULT_PORT)
        return Address("tcp" if scheme == "tcp" else "tls", host, port)
    raise Invalid(
        f"{url!r} is no address of a socket; write it like tcp://127.0.0.1:7460 or unix:///path/remoterun.sock"
    )
