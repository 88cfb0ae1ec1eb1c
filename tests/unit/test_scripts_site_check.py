"""site_check, against servers on this machine: good ones, broken ones and silent ones."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

Answer = bytes | None  # None: never

main: Callable[..., Awaitable[dict[str, Any]]] = runpy.run_path(
    str(Path(__file__).parents[2] / "scripts/site_check.py")
)["main"]


@asynccontextmanager
async def site(answer: Answer, requests: list[bytes] | None = None) -> AsyncIterator[str]:
    """Serve one answer to every request, on a free port of the loopback address."""
    over = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if requests is not None:
                requests.append(head)
            if answer is None:
                await over.wait()
            else:
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass  # a caller that speaks TLS has heard enough
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        over.set()
        server.close()
        await server.wait_closed()


def ok(status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()


async def test_it_tells_up_from_down() -> None:
    answers = [ok(), ok("301 Moved"), ok("404 Not Found"), ok("500 Oops"), b"+PONG\r\n", b""]
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(site(answer)) for answer in answers]
        report = await main(urls)
    assert [entry["up"] for entry in report["sites"]] == [True, True, False, False, False, False]
    assert [entry.get("status") for entry in report["sites"]] == [200, 301, 404, 500, None, None]
    assert "not in HTTP" in report["sites"][4]["error"]
    assert (report["up"], report["of"]) == (2, 6)


async def test_a_silent_server_is_given_up() -> None:
    async with site(None) as silent, site(ok()) as good:
        report = await main([silent, good], timeout=0.2)
    assert report["sites"][0]["error"] == "no answer within 0.2 s"
    assert report["sites"][1]["up"]


async def test_they_are_asked_at_the_same_time() -> None:
    """Two servers that each answer only once the other was asked too."""
    both = asyncio.Barrier(2)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await both.wait()
        writer.write(ok())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        report = await main([f"{base}/1", f"{base}/2"], timeout=30)
    assert report["up"] == 2


async def test_nobody_listens() -> None:
    async with site(ok()) as url:
        pass
    report = await main(url)
    assert not report["sites"][0]["up"]
    assert "refused" in report["sites"][0]["error"].lower() or "connect" in report["sites"][0]["error"].lower()


async def test_the_request_is_as_the_address_says() -> None:
    requests: list[bytes] = []
    async with site(ok(), requests) as url:
        await main(f"{url}/a/b?c=d#e")
    assert requests[0].startswith(b"GET /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_tls_is_checked() -> None:
    async with site(ok()) as url:
        report = await main(url.replace("http://", "https://"), timeout=1)
    assert not report["sites"][0]["up"]


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "ftp://x", "file:///etc/passwd", "http://", "http://x/ y", "http://x/\r\nHost: y", "http://ü/"],
)
async def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no web address"):
        await main(url)


@pytest.mark.parametrize("bad", [{"timeout": 0.0}, {"timeout": 61.0}, {"at_once": 0}, {"at_once": 51}])
async def test_its_bounds(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r" is [\d.]+ to \d+"):
        await main("http://127.0.0.1", **bad)
    with pytest.raises(ValueError, match="1 to 200"):
        await main([])
