"""Headers of STOMP messages ↔ what they mean here; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from remoterun.errors import ServiceError

KEY_HEADERS: Final = ("remoterun-key", "key")
_LONGEST = 2000  # characters of a header of ours: ActiveMQ closes a connection over one of more than 10 KiB
_TEXT: Final = {"amq-msg-type": "text", "content-type": "application/json"}  # a TextMessage to Java's consumers

# What belongs to one delivery, or to the broker, and not to the message.
_ONE_DELIVERYS: Final = frozenset(
    {
        "ack",
        "content-length",
        "destination",
        "expires",
        "id",
        "message-id",
        "persistent",
        "receipt",
        "redelivered",
        "reply-to",
        "selector",
        "subscription",
        "timestamp",
        "transaction",
    }
)


def key_of(headers: Mapping[str, str]) -> str:
    """Give the idempotency key: the publisher's, or the broker's id of the message, which redeliveries keep."""
    return next((headers[name] for name in KEY_HEADERS if headers.get(name)), headers.get("message-id", ""))


def was_delivered_before(headers: Mapping[str, str]) -> bool:
    """Whether the broker has handed the message to someone who did not acknowledge it."""
    return headers.get("redelivered") == "true"


def of_answer(request: Mapping[str, str]) -> dict[str, str]:
    """Give the headers of an answer to a message."""
    correlation = request.get("correlation-id") or request.get("message-id", "")
    return {**_TEXT, "correlation-id": _clean(correlation)}


def of_dead(message: Mapping[str, str], error: ServiceError) -> dict[str, str]:
    """Give the headers of a refused message: its own, and why it was refused."""
    own = {_clean(name): _clean(value) for name, value in message.items() if name not in _ONE_DELIVERYS}
    text = {} if "content-length" in message else {"amq-msg-type": "text"}
    return {
        **own,
        **text,
        "remoterun-error": error.code,
        "remoterun-reason": _clean(_reason(error)),
        "remoterun-message-id": _clean(message.get("message-id", "")),
    }


def _reason(error: ServiceError) -> str:
    fields = "; ".join(f"{bad.field}: {bad.message}" for bad in error.fields)
    text = f"{error.message} ({fields})" if fields else error.message
    return "".join(character if character.isprintable() else " " for character in text)


def _clean(text: str) -> str:
    """Give a text that a header can hold: no NUL, which would end the frame, and not too long."""
    whole = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return whole if len(whole) <= _LONGEST else whole[: _LONGEST - 1] + "…"
