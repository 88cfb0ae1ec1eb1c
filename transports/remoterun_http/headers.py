"""What a request's head says: header values, Host, Origin, Prefer, Idempotency-Key; pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from remoterun.errors import Forbidden, Invalid
from remoterun.messages import FieldError
from remoterun_http.answers import Header, HttpError

# RFC 9110, 5.3: only these may come several times; they are lists. Two of anything else is an attack or a mistake.
_LISTS = frozenset({b"accept", b"prefer", b"accept-encoding", b"accept-language", b"via", b"forwarded"})
_SINGLE = frozenset(
    {
        b"host",
        b"origin",
        b"authorization",
        b"content-type",
        b"content-length",
        b"idempotency-key",
        b"remoterun-timeout",
        b"traceparent",
        b"last-event-id",
    }
)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::\d{1,5})?")
_KEY = re.compile(r"[\x21\x23-\x7e]+")
_QUOTED_KEY = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


def fold(headers: list[Header]) -> dict[bytes, bytes]:
    """Give the headers by name.

    Raises:
        HttpError: a header that can have one value only came twice.
    """
    folded = dict(headers)
    if len(folded) == len(headers):
        return folded
    folded.clear()
    for name, value in headers:
        if name not in folded:
            folded[name] = value
        elif name in _LISTS:
            folded[name] += b", " + value
        elif name in _SINGLE:
            raise HttpError(400, f"the header {name.decode('latin-1')} came twice")
    return folded


class Hosts:
    """Which Host and Origin are taken: a name that is not ours is DNS rebinding or another site's page.

    An IP address is always taken: rebinding needs a name.

    Parameters:
        names: host names, besides localhost.
        origins: origins of other sites, besides this one.
    """

    def __init__(self, names: Iterable[str], origins: Iterable[str]) -> None:
        self._names = frozenset({b"localhost", *(name.lower().encode() for name in names)})
        self._origins = frozenset(origin.lower().rstrip("/").encode() for origin in origins)

    def check(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a request for another host, or from another site's page.

        Raises:
            HttpError: the Host header is missing, malformed or not ours.
            Forbidden: the Origin header names another site.
        """
        host = headers.get(b"host", b"")
        match = _HOST.fullmatch(host)
        if match is None:
            raise HttpError(400, "the request has no valid Host header")
        name = match[1].lower()
        if name not in self._names and not name.endswith(b".localhost") and not _is_address(name):
            raise HttpError(421, f"{name.decode()} is not a name of this node; add it to [http] hosts")
        origin = headers.get(b"origin")
        if origin is not None and not self._takes_origin(origin.lower(), host.lower()):
            raise Forbidden("calls from this Origin are not taken; add it to [http] origins")

    def _takes_origin(self, origin: bytes, host: bytes) -> bool:
        return own_origin(origin, host) or origin in self._origins


def own_origin(origin: bytes, host: bytes) -> bool:
    """Tell whether an Origin is that of the very Host; both in lower case."""
    return origin in (b"http://" + host, b"https://" + host)


def _is_address(name: bytes) -> bool:
    if not name[:1].isdigit() and name[:1] != b"[":
        return False
    try:
        ipaddress.ip_address(name.decode().strip("[]"))
    except ValueError:
        return False
    return True


def bearer(headers: dict[bytes, bytes]) -> str | None:
    """Give the token of the Authorization header, or None where there is none of the scheme Bearer."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    return token.strip().decode("latin-1") or None


def media_type(headers: dict[bytes, bytes], name: bytes = b"content-type") -> bytes:
    """Give a header's media type without its parameters, in lower case."""
    return headers.get(name, b"").partition(b";")[0].strip().lower()


def accepts(headers: dict[bytes, bytes], kind: bytes) -> bool:
    """Say whether the Accept header names this very media type."""
    accept = headers.get(b"accept")
    if accept is None:
        return False
    return any(part.partition(b";")[0].strip().lower() == kind for part in accept.split(b","))


@dataclass(frozen=True, slots=True)
class Preference:
    """What a Prefer header (RFC 7240) asks for: an answer at once, or after `wait` seconds at most."""

    wait: float
    applied: bytes  # the value of Preference-Applied


def preference(headers: dict[bytes, bytes]) -> Preference | None:
    """Give the preference for an early answer, or None; what is malformed is ignored, as the RFC has it."""
    value = headers.get(b"prefer")
    if value is None:
        return None
    respond_async = False
    wait: int | None = None
    for part in value.split(b","):
        name, _, argument = part.partition(b";")[0].partition(b"=")
        name, argument = name.strip().lower(), argument.strip().strip(b'"')
        if name == b"respond-async":
            respond_async = True
        elif name == b"wait" and argument.isdigit() and wait is None and len(argument) < 9:
            wait = int(argument)
    if wait is None and not respond_async:
        return None
    applied = [b"respond-async"] if respond_async else []
    if wait is not None:
        applied.append(b"wait=%d" % wait)
    return Preference(float(wait or 0), b", ".join(applied))


def idempotency_key(headers: dict[bytes, bytes]) -> str | None:
    """Give the idempotency key: a quoted string as the IETF draft has it, or a bare word.

    Raises:
        Invalid: it is neither.
    """
    value = headers.get(b"idempotency-key")
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    quoted = _QUOTED_KEY.fullmatch(text)
    if quoted is not None and quoted[1]:
        return re.sub(r"\\(.)", r"\1", quoted[1])
    if _KEY.fullmatch(text):
        return text
    message = 'must be a quoted string or a word without spaces, like "8e03978e"'
    raise Invalid(f"Idempotency-Key {message}", fields=[FieldError("Idempotency-Key", message)])
