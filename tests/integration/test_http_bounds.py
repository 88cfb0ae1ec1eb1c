"""What a connection may hold and how long it may take: attackers on raw sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.http_fake import TOKEN, Node, serving

HOST = b"Host: localhost\r\n"
AUTH = f"Authorization: Bearer {TOKEN}\r\n".encode()
WHOLE = b"POST /run/hello HTTP/1.1\r\n" + HOST + AUTH + b"Content-Length: 0\r\n\r\n"
SOON = 0.2  # seconds: a deadline short enough to wait for
FAR = 3600.0


class Line:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        """Read the head of a response, and its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"content-length":
                head += await self.reader.readexactly(int(value))
        return head

    async def rest(self) -> bytes:
        """Read until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""


@asynccontextmanager
async def connected(node: Node) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection(*node.place)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def answers(node: Node) -> bool:
    async with connected(node) as honest:
        honest.send(WHOLE)
        return (await honest.head()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"G",
        b"POST /run/hello HTTP/1.1\r\n" + HOST + AUTH,
        b"POST /run/hello HTTP/1.1\r\n" + HOST + AUTH + b"Content-Le",
        b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST /run/hello HTTP/1.1\r\n" + HOST + b"Authorization: Bearer wrong\r\nContent-Length: 9\r\n\r\n",
        b"POST /run/hello HTTP/1.1\r\n" + HOST + b"Content-Length: 9000000\r\n\r\n" + b"x" * 20_000,
    ],
)
async def test_a_connection_that_does_not_authenticate_is_closed(tmp_path: Path, opening: bytes) -> None:
    async with serving(tmp_path, auth_timeout=SOON) as node:
        async with connected(node) as line:
            line.send(opening)
            await line.rest()
        assert await answers(node)
        assert len(node.service.jobs) == 1


async def test_asking_for_public_pages_again_and_again_buys_no_time(tmp_path: Path) -> None:
    async with serving(tmp_path, auth_timeout=SOON) as node, connected(node) as line:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                line.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
                await line.head()


async def test_a_drip_of_bytes_buys_no_time(tmp_path: Path) -> None:
    async with serving(tmp_path, auth_timeout=SOON) as node, connected(node) as line:
        line.send(b"GET / HTTP/1.1\r\nX: ")
        closed = asyncio.create_task(line.rest())
        while not closed.done():
            line.send(b"x")
            await asyncio.wait((closed,), timeout=0.01)
        assert b"408" in await closed or await closed == b""


@pytest.mark.parametrize(
    "half",
    [
        b"P",
        b"POST /run/hello HTTP/1.1\r\n" + HOST,
        b"POST /run/args HTTP/1.1\r\n" + HOST + AUTH + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000,
    ],
)
async def test_a_later_request_has_a_deadline_of_its_own(tmp_path: Path, half: bytes) -> None:
    async with serving(tmp_path, auth_timeout=FAR, request_timeout=SOON) as node, connected(node) as line:
        line.send(WHOLE)
        assert (await line.head()).startswith(b"HTTP/1.1 200")
        line.send(half)
        await line.rest()
        assert len(node.service.jobs) == 1


async def test_a_first_request_whose_body_does_not_come_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path, auth_timeout=FAR, request_timeout=SOON) as node, connected(node) as line:
        line.send(b"POST /run/args HTTP/1.1\r\n" + HOST + AUTH + b"Content-Length: 9\r\n\r\nxx")
        await line.rest()
        assert not node.service.jobs


async def test_an_authenticated_connection_may_be_silent(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, auth_timeout=SOON, request_timeout=SOON) as node,
        connected(node) as line,
        connected(node) as silent,
    ):
        line.send(WHOLE)
        await line.head()
        await silent.rest()  # both deadlines have passed
        line.send(WHOLE)
        assert (await line.head()).startswith(b"HTTP/1.1 200")


async def test_a_long_job_is_no_late_request(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, auth_timeout=SOON, request_timeout=SOON) as node,
        connected(node) as line,
        connected(node) as silent,
    ):
        line.send(WHOLE.replace(b"hello", b"slow"))
        await silent.rest()
        node.service.release.set()
        assert (await line.head()).endswith(b'"done"')


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: "])
async def test_a_head_is_bounded(tmp_path: Path, start: bytes) -> None:
    async with serving(tmp_path, auth_timeout=FAR) as node:
        async with connected(node) as line:
            line.send(start.ljust(8192, b"x"))
            assert b" 431 " in await line.rest()
        async with connected(node) as line:
            line.send(start.ljust(100_000, b"x"))
            await line.rest()


async def test_a_body_is_not_read_before_the_token_is_proved(tmp_path: Path) -> None:
    async with serving(tmp_path, auth_timeout=FAR) as node, connected(node) as line:
        proof = asyncio.Event()
        held: list[int] = []
        prove = node.service.authenticate

        async def slowly(*args: object) -> object:
            [connection] = node.server._server.server_state.connections  # type: ignore[union-attr]
            held.append(len(connection.cycle.body))  # type: ignore[union-attr]
            await proof.wait()
            held.append(len(connection.cycle.body))  # type: ignore[union-attr]
            return await prove(*args)  # type: ignore[arg-type]

        node.service.authenticate = slowly  # type: ignore[assignment,method-assign]
        body = b"x" * 900_000
        line.send(b"POST /run/args HTTP/1.1\r\n" + HOST + AUTH + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert await answered_meanwhile(node)
        proof.set()
        assert b'"stdin":"xxx' in await line.head()
        assert held[0] <= 8192
        assert held[-1] <= 8192


async def answered_meanwhile(node: Node) -> bool:
    async with connected(node) as other:
        other.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        return (await other.head()).startswith(b"HTTP/1.1 200")


async def test_a_body_without_a_token_is_refused_before_it_comes(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, connected(node) as line:
        line.send(b"POST /run/hello HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
        assert (await line.head()).startswith(b"HTTP/1.1 401")


async def test_a_known_caller_is_told_to_continue(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, connected(node) as line:
        line.send(b"POST /run/args HTTP/1.1\r\n" + HOST + AUTH + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await line.head()).startswith(b"HTTP/1.1 100")
        line.send(b"hi")
        assert b'"stdin":"hi"' in await line.head()


async def test_requests_sent_ahead_are_answered_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, connected(node) as line:
        bodies = [b'{"name":"%d"}' % number for number in range(200)]
        head = b"POST /run/hello HTTP/1.1\r\n" + HOST + AUTH + b"Content-Type: application/json\r\n"
        line.send(b"".join(head + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies))
        for number in range(200):
            assert (await line.head()).endswith(b'{"hello":"%d"}' % number)


async def test_a_fault_behind_a_call_under_way_is_not_taken_for_its_answer(tmp_path: Path) -> None:
    async with serving(tmp_path, request_timeout=SOON) as node, connected(node) as line:
        line.send(WHOLE.replace(b"hello", b"slow"))
        await node.service.started.wait()
        line.send(b"POST /run/hel")
        assert await line.rest() == b""
    async with serving(tmp_path) as node, connected(node) as line:
        line.send(WHOLE.replace(b"hello", b"slow") + b"garbage\r\n\r\n")
        assert await line.rest() == b""


async def test_any_split_of_a_request_is_the_same_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, connected(node) as line:
        request = WHOLE.replace(b"Content-Length: 0\r\n\r\n", b"Content-Length: 2\r\n\r\nhi").replace(b"hello", b"args")
        for cut in range(1, len(request)):
            line.send(request[:cut])
            await line.writer.drain()
            await asyncio.sleep(0)
            line.send(request[cut:])
            assert b'"stdin":"hi"' in await line.head()


async def test_when_full_the_oldest_unproved_connection_makes_room(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, auth_timeout=FAR, connections=2) as node,
        connected(node) as attacker,
        connected(node) as other,
    ):
        other.send(WHOLE)
        await other.head()
        assert await answers(node)
        assert await attacker.rest() == b""
        other.send(WHOLE)
        assert (await other.head()).startswith(b"HTTP/1.1 200")


async def test_when_full_of_callers_a_further_one_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path, connections=1) as node:
        async with connected(node) as line:
            line.send(WHOLE)
            await line.head()
            async with connected(node) as further:
                assert b" 503 " in await further.rest()
        for _ in range(1000):  # until the server has seen that the line was closed
            if await answers(node):
                return
        pytest.fail("the closed connection is still counted")


@pytest.mark.parametrize(
    "greeting",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"AMQP\x00\x00\x09\x01",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03",
        b"*2\r\n$3\r\nRUN\r\n$5\r\nhello\r\n",
        b"RUN hello\r\n",
        b"CONNECT\naccept-version:1.2\n\n\x00",
        b"CONNECT localhost:1 HTTP/1.1\r\n\r\n",
        b"GET http://evil.example/run/hello HTTP/1.1\r\n\r\n",
        b"POST /run/\xff HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
        b"POST /run/hello HTTP/1.1\r\n" + HOST + AUTH + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /run/hello HTTP/1.1\r\n"
        + HOST
        + AUTH
        + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /run/hello HTTP/1.1\r\n" + HOST + HOST + AUTH + b"Content-Length: 0\r\n\r\n",
        b"POST /run/hello HTTP/1.1\r\n" + AUTH + b"Content-Length: 0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_other_protocols_and_tricks_run_nothing(tmp_path: Path, greeting: bytes) -> None:
    async with serving(tmp_path, auth_timeout=SOON) as node:
        async with connected(node) as line:
            line.send(greeting)
            answer = await line.rest()
            assert b" 200 " not in answer.partition(b"\r\n")[0]
        assert not node.service.jobs
        assert await answers(node)
