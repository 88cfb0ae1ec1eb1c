"""Addresses of brokers as people write them: `amqp://user:password@host:port/vhost?queue=name`; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from remoterun.errors import Invalid

QUEUE: Final = "remoterun.jobs"
_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_EXAMPLE: Final = "amqp://user:password@127.0.0.1:5672/%2F"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is, and who we are there; as text it has no credentials."""

    host: str
    port: int
    vhost: str = "/"
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    is_secure: bool = False
    queue: str = QUEUE

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = "" if self.vhost == "/" else f"/{quote(self.vhost, safe='')}"
        queue = "" if self.queue == QUEUE else f"?queue={quote(self.queue)}"
        return f"{'amqps' if self.is_secure else 'amqp'}://{host}:{self.port}{vhost}{queue}"


def parse_url(url: str, queue: str = QUEUE) -> Address:
    """Parse `amqp://` or `amqps://`; what is left out is RabbitMQ's default, and `queue`.

    Raises:
        Invalid: it is none of these; the text never holds the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise Invalid(f"that is no address of a broker; write it like {_EXAMPLE}") from error
    if parts.scheme not in _PORTS or not parts.hostname or "/" in parts.path[1:]:
        raise Invalid(f"that is no address of a broker; write it like {_EXAMPLE}")
    if unknown := options.keys() - {"queue"}:
        raise Invalid(f"the broker's address has an option {min(unknown)[:40]!r}; there is only queue")
    return Address(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        vhost=unquote(parts.path[1:]) or "/",
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        is_secure=parts.scheme == "amqps",
        queue=options.get("queue", [""])[-1] or queue,
    )
