"""Where a broker is, how it wants to be spoken to, and which queue is meant; pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from msgspec import Struct

from remoterun.errors import Invalid

PLAIN, TLS = "stomp", "stomp+ssl"
DEFAULT_QUEUE: Final = "/queue/remoterun.jobs"
_PORTS: Final = {PLAIN: 61613, TLS: 61614}  # ActiveMQ's own defaults


class Address(Struct, frozen=True):
    """A broker and a queue; its text has no secrets."""

    host: str
    port: int
    is_tls: bool = False
    login: str | None = None
    passcode: str | None = None
    queue: str = DEFAULT_QUEUE
    ca: str | None = None  # PEM files
    cert: str | None = None
    key: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TLS if self.is_tls else PLAIN}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Address {self.url}>"

    @property
    def url(self) -> str:
        """What callers connect to, without credentials."""
        return str(self) if self.queue == DEFAULT_QUEUE else f"{self}?queue={quote(self.queue)}"


def parse_url(url: str, *, ca: str | None = None) -> Address:
    """Read `stomp://[user:password@]host[:port][?queue=/queue/name]`.

    Raises:
        Invalid: it is no such address.
    """
    wrong = Invalid("the address is no STOMP broker's; write it like stomp://127.0.0.1:61613?queue=/queue/name")
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qs(parts.query, strict_parsing=True, max_num_fields=1) if parts.query else {}
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or not query.keys() <= {"queue"}:
        raise wrong
    return Address(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        is_tls=parts.scheme == TLS,
        login=None if parts.username is None else unquote(parts.username),
        passcode=None if parts.password is None else unquote(parts.password),
        queue=query.get("queue", [DEFAULT_QUEUE])[0],
        ca=ca,
    )
