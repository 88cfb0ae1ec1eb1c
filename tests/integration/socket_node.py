"""A socket server half over the fake service, and callers of every kind, for the tests of the socket."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import uvloop

from remoterun.transport import ServerContext, ServerHalf
from remoterun_socket import SocketSettings, transport
from remoterun_socket.protocol import NOTHING, ReplyReader
from tests.integration.socket_fake import FakeService


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on asyncio's own event loop and on uvloop, which the node prefers: they differ in what they buffer."""

    @wraps(test)
    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**fixtures))

    signature = inspect.signature(test)
    loop = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), loop])  # type: ignore[attr-defined]
    del run.__wrapped__  # it would be taken for the test itself
    factories = [asyncio.new_event_loop, uvloop.new_event_loop]
    decorated: Callable[..., None] = pytest.mark.parametrize("loop_factory", factories, ids=["asyncio", "uvloop"])(run)
    return decorated


def tool(name: str) -> str:
    """Give a program's path; without it the test is skipped, but fails where CI runs."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is missing, and CI must have it")
        pytest.skip(f"{name} is not installed")
    return path


@dataclass(frozen=True)
class Node:
    """A server half that listens."""

    service: FakeService
    half: ServerHalf
    addresses: Mapping[str, tuple[str, ...]]

    @property
    def url(self) -> str:
        return self.addresses["socket"][0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def unix_path(self) -> str:
        return self.addresses["unix"][0].removeprefix("unix://")


def context(service: FakeService, data: Path, **changes: Any) -> ServerContext:
    """Give what a node would give to a server half."""
    values: dict[str, Any] = {
        "service": service,
        "data": data,
        "max_request": 2**20,
        "auth_timeout": 60.0,
        "insecure_listen": False,
        "is_ready": lambda: True,
        "addresses": lambda: {"http": ("http://127.0.0.1:7461",)},
    }
    return ServerContext(**(values | changes))


@asynccontextmanager
async def serving(
    data: Path, service: FakeService | None = None, changes: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Node]:
    """Serve on a free port and a Unix socket; `changes` to the context, `settings` of the transport."""
    service = service or FakeService()
    half = transport.server(
        context(service, data, **(changes or {})), SocketSettings(**({"listen": ("127.0.0.1:0",)} | settings))
    )
    addresses = await half.start()
    try:
        yield Node(service, half, addresses)
    finally:
        await half.stop(0.2)


class Raw:
    """A caller that writes bytes and reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._replies = ReplyReader()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> Any:
        """Give the next reply; fail where the connection ends instead."""
        while (reply := self._replies.next()) is NOTHING:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError("the node closed the connection")
            self._replies.feed(data)
        return reply

    async def ask(self, line: str) -> Any:
        """Send an inline command and give its reply."""
        self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def rest(self) -> bytes:
        """Give all bytes until the connection ends."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


@asynccontextmanager
async def raw(node: Node, token: str | None = None, unix: bool = False, **options: Any) -> AsyncIterator[Raw]:
    """Connect, and authenticate where there is a token."""
    if unix:
        reader, writer = await asyncio.open_unix_connection(node.unix_path, **options)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port, **options)
    caller = Raw(reader, writer)
    try:
        if token is not None:
            assert await caller.ask(f"AUTH {token}") == b"OK"
        yield caller
    finally:
        writer.close()
