"""Addresses as people write them, `host:port` and the URLs made of them; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from remoterun.addresses import join, split
from remoterun.errors import Invalid

DEFAULT_PORT: Final = 7462


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node answers RPC, with TLS (`rpycs`) or without."""

    scheme: Literal["rpyc", "rpycs"]
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{join(self.host, self.port)}"


def parse_url(url: str) -> Address:
    """Parse `rpyc://host:port` or `rpycs://host:port`.

    Raises:
        Invalid: it is neither.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in ("rpyc", "rpycs") or not rest:
        raise Invalid(f"{url!r} is no address for RPC; write it like rpyc://127.0.0.1:{DEFAULT_PORT}")
    return Address("rpyc" if scheme == "rpyc" else "rpycs", *split(rest.rstrip("/"), DEFAULT_PORT))
