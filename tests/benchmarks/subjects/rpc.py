"""Warm calls of a bare RPyC client, beside an RPyC server that gives the same answer."""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from collections.abc import Callable

import rpyc

from measure import Figure, MeasureError, Row, Target
from place import Place, wait_for_port

_ROUND_TRIPS = 1000
_CALLS = 3000
_UNDER_WAY = 16  # calls of one connection
_ANSWER = {"hello": "Ada"}

_Method = Callable[..., str]


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    node = place.node()
    if node.rpc is None:
        raise MeasureError("the node has no transport rpc")
    port = place.free_port()
    place.floor("rpyc_echo.py", str(port))
    wait_for_port(port)
    ours, echo = _run_of(place, node.rpc, node.token), _run_of(place, port)
    one = Figure("RPyC's echo", "ms", lambda: _milliseconds(echo))
    many = Figure("RPyC's echo", "/s", lambda: _rate(echo))
    return [
        Row(
            "RPyC, warm: round trip on 1 connection",
            Figure("hello", "ms", lambda: _milliseconds(ours)),
            [one],
            [Target("≤", 2, one)],
        ),
        Row(f"RPyC, warm: 1 connection, {_UNDER_WAY} under way", Figure("hello", "/s", lambda: _rate(ours)), [many]),
    ]


def _run_of(place: Place, port: int, token: str | None = None) -> _Method:
    """Connect, and give the method `run`, which is kept: asking for it would be a round trip of its own."""
    connection = rpyc.connect("127.0.0.1", port)
    place.keep(connection)
    if token is not None:
        connection.root.login(token)
    method: _Method = connection.root.run
    return method


def _milliseconds(run: _Method) -> float:
    """Give the time of one call, one at a time; the median."""
    times = []
    for _ in range(_ROUND_TRIPS):
        began = time.perf_counter()
        answer = run("hello", name="Ada")
        times.append(time.perf_counter() - began)
        _check(answer)
    return statistics.median(times) * 1000


def _rate(run: _Method) -> float:
    """Give the answers a second of one connection that has many calls under way."""
    call = rpyc.async_(run)
    began = time.perf_counter()
    waiting = deque(call("hello", name="Ada") for _ in range(_UNDER_WAY))
    for number in range(_CALLS):
        _check(waiting.popleft().value)
        if number < _CALLS - _UNDER_WAY:
            waiting.append(call("hello", name="Ada"))
    return _CALLS / (time.perf_counter() - began)


def _check(answer: str) -> None:
    if json.loads(answer) != _ANSWER:
        raise MeasureError(f"the answer was {answer[:200]!r}")
