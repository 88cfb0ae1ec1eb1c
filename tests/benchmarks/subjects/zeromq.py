"""Warm calls over ZeroMQ, beside a ROUTER of pyzmq's that sends back what it gets."""

from __future__ import annotations

import json
import statistics
import time

import zmq

from measure import Figure, MeasureError, Row, Target
from place import Place, wait_for_port

_ROUND_TRIPS = 2000
_CALLS = 5000
_UNDER_WAY = 64  # calls of one DEALER
_PATIENCE = 10_000  # milliseconds


class _Peer:
    """A ROUTER, and the request that it is sent again and again.

    Parameters:
        context: outlives the sockets, which are closed after each measurement.
        expects: part of every answer.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], port: int, request: bytes, expects: bytes) -> None:
        self._context = context
        self._address = f"tcp://127.0.0.1:{port}"
        self._request = request
        self._expects = expects

    def milliseconds(self) -> float:
        """Give the time of one call of a REQ socket, one at a time; the median."""
        with self._open(zmq.REQ) as socket:
            times = []
            for _ in range(_ROUND_TRIPS):
                began = time.perf_counter()
                socket.send(self._request)
                self._take(socket)
                times.append(time.perf_counter() - began)
        return statistics.median(times) * 1000

    def rate(self) -> float:
        """Give the answers a second of a DEALER that has many calls under way."""
        with self._open(zmq.DEALER) as socket:
            began = time.perf_counter()
            for _ in range(_UNDER_WAY):
                socket.send(self._request)
            for number in range(_CALLS):
                self._take(socket)
                if number < _CALLS - _UNDER_WAY:
                    socket.send(self._request)
            return _CALLS / (time.perf_counter() - began)

    def _open(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.rcvtimeo = _PATIENCE
        socket.connect(self._address)
        return socket

    def _take(self, socket: zmq.Socket[bytes]) -> None:
        try:
            answer = socket.recv()
        except zmq.Again as error:
            raise MeasureError("an answer stayed away") from error
        if self._expects not in answer:
            raise MeasureError(f"the answer was {answer[:200]!r}")


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    node = place.node()
    if node.zeromq is None:
        raise MeasureError("the node has no transport zeromq")
    port = place.free_port()
    place.floor("zeromq_echo.py", str(port))
    wait_for_port(port)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    request = json.dumps({"token": node.token, "script": "hello", "params": {"name": "Ada"}}).encode()
    ours = _Peer(context, node.zeromq, request, b'"result":{"hello":"Ada"}')
    echo = _Peer(context, port, request, b'"Ada"')
    one = Figure("pyzmq's echo", "ms", echo.milliseconds)
    many = Figure("pyzmq's echo", "/s", echo.rate)
    return [
        Row(
            "ZeroMQ, warm: round trip of a REQ",
            Figure("hello", "ms", ours.milliseconds),
            [one],
            [Target("≤", 2, one)],
        ),
        Row(f"ZeroMQ, warm: a DEALER, {_UNDER_WAY} under way", Figure("hello", "/s", ours.rate), [many]),
    ]
