"""What one look found; pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """What one look found."""

    what: str
    verdict: Verdict
    message: str  # with what to do, where it is not ok
    public: str | None = None  # what a report says instead, where the message may quote what is nobody's business
