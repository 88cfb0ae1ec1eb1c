"""Connections that come at once are shared by those who accept on the same socket."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from remoterun_http.accepting import Acceptor


class Counting(asyncio.Protocol):
    """Says of each connection who has it."""

    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        bound.setblocking(False)
        yield bound


def burst(listener: socket.socket, count: int, stack: ExitStack) -> None:
    """Open connections that wait to be accepted."""
    for _ in range(count):
        stack.enter_context(socket.create_connection(listener.getsockname()))


async def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(30_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("not within half a minute")


async def test_a_burst_is_shared(listener: socket.socket) -> None:
    first: list[asyncio.BaseTransport] = []
    second: list[asyncio.BaseTransport] = []
    with ExitStack() as stack:
        burst(listener, 20, stack)
        acceptors = [
            Acceptor(listener.dup(), lambda made=made: Counting(made), None, None)  # type: ignore[misc]
            for made in (first, second)
        ]
        await eventually(lambda: len(first) + len(second) == 20)
        assert (len(first), len(second)) == (10, 10)
        for acceptor in acceptors:
            acceptor.close()
        for transport in (*first, *second):
            transport.close()


async def test_what_is_closed_accepts_nothing_more(listener: socket.socket) -> None:
    made: list[asyncio.BaseTransport] = []
    other = listener.dup()
    acceptor = Acceptor(listener, lambda: Counting(made), None, None)
    acceptor.close()
    acceptor.close()
    with other, socket.create_connection(other.getsockname()):
        await asyncio.sleep(0.05)
        assert made == []


async def test_it_goes_on_once_there_are_descriptors_again(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[asyncio.BaseTransport] = []
    with ExitStack() as stack:
        burst(listener, 1, stack)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            acceptor = Acceptor(listener, lambda: Counting(made), None, None)
            await eventually(lambda: "no connection can be accepted" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await eventually(lambda: len(made) == 1)
        acceptor.close()
        made[0].close()
