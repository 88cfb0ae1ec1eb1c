"""Warm calls over HTTP, each one validated and recorded."""

from __future__ import annotations

from loads import HttpLoad, run_load
from measure import Figure, Row, Target
from place import Place


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    ours = run_load(place, place.node(), "hello")
    several = run_load(place, place.node(settings={"HTTP_PROCESSES": "2"}), "hello")
    echo = HttpLoad(place, place.serve("fastapi_echo.py"), "/run/hello", {"name": "Ada"})
    rate = Figure("FastAPI echo", "/s", lambda: echo.rate(16))
    return [
        Row(
            "HTTP, warm: 16 connections",
            Figure("POST /run/hello", "/s", lambda: ours.rate(16)),
            [rate],
            [Target("≥", 8_000), Target("≥", 0.8, rate)],
        ),
        Row(
            "HTTP, warm: 16 connections, processes = 2",
            Figure("POST /run/hello", "/s", lambda: several.rate(16)),
            [rate],
            [Target("≥", 8_000), Target("≥", 1, rate)],
        ),
        Row(
            "HTTP, warm: round trip on 1 connection",
            Figure("POST /run/hello", "ms", ours.milliseconds),
            [Figure("FastAPI echo", "ms", echo.milliseconds)],
        ),
    ]
