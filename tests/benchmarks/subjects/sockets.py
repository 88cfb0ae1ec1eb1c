"""Warm calls over the raw socket, each one validated and recorded."""

from __future__ import annotations

from loads import connect, connect_resp, redis_rate, resp, round_trip
from measure import Figure, MeasureError, Row, Target, absent
from place import Place, RunningNode

_RUN = ("RUN", "hello", "name=Ada")


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    node = place.node()
    return [_round_trip(place, node), *_rates(node, _redis(place))]


def _round_trip(place: Place, node: RunningNode) -> Row:
    message = resp(*_RUN)
    echo, blocking, relay = (
        connect(place.serve(floor)) for floor in ("tcp_echo.py", "blocking_echo.py", "relay_echo.py")
    )
    for connection in (echo, blocking, relay):
        place.keep(connection)
    floor = Figure("TCP echo on uvloop", "ms", lambda: round_trip(echo, message))
    plain = Figure("TCP echo, blocking", "ms", lambda: round_trip(blocking, message))
    through = Figure("TCP echo through a second process", "ms", lambda: round_trip(relay, message))
    try:
        ours = connect_resp(node)
    except MeasureError as error:
        figure = absent("RUN", "ms", str(error))
    else:
        place.keep(ours)
        figure = Figure("RUN", "ms", lambda: round_trip(ours, message))
    return Row("socket, warm: round trip on 1 connection", figure, [floor, plain, through], [Target("≤", 3, floor)])


def _rates(node: RunningNode, redis: int | str) -> list[Row]:
    loads = [
        ("1 connection", 1, 1, 3_000, None),
        ("16 connections", 16, 1, 15_000, 15_000),
        ("16 connections, 16 deep", 16, 16, 30_000, 30_000),
    ]
    found = []
    for what, connections, pipeline, calls, target in loads:
        ours = _ours(node, connections, calls, pipeline)
        floor = _echo(redis, connections, calls, pipeline)
        targets = [Target("≥", target)] if target else []
        found.append(Row(f"socket, warm: {what}", ours, [floor], targets))
    return found


def _ours(node: RunningNode, connections: int, calls: int, pipeline: int) -> Figure:
    port = node.socket
    if port is None:
        return absent("RUN", "/s", "the node has no transport socket")
    return Figure(
        "RUN",
        "/s",
        lambda: redis_rate(port, _RUN, connections=connections, calls=calls, pipeline=pipeline, token=node.token),
    )


def _echo(redis: int | str, connections: int, calls: int, pipeline: int) -> Figure:
    name = "redis-server's ECHO"
    if isinstance(redis, str):
        return absent(name, "/s", redis)
    return Figure(
        name,
        "/s",
        lambda: redis_rate(
            redis, ("ECHO", '{"hello":"Ada"}'), connections=connections, calls=2 * calls, pipeline=pipeline
        ),
    )


def _redis(place: Place) -> int | str:
    """Start a redis-server and give its port, or why there is none."""
    try:
        return place.redis()
    except MeasureError as error:
        return str(error)
