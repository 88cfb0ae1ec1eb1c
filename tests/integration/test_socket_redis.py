"""Clients that no one here wrote: redis-cli, redis-benchmark, redis-py, nc, and a browser's GET."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.integration.socket_fake import TOKEN
from tests.integration.socket_node import Node, serving, tool


async def shell(program: str, *args: str, stdin: bytes = b"") -> bytes:
    process = await asyncio.create_subprocess_exec(
        tool(program),
        *args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin)
    assert not err, err
    return out


async def redis_cli(node: Node, *args: str, stdin: bytes = b"") -> bytes:
    return await shell("redis-cli", "-p", str(node.port), "-a", TOKEN, "--no-auth-warning", *args, stdin=stdin)


async def test_redis_cli_runs_a_script(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        assert await redis_cli(node, "RUN", "hello", "name=Ada") == b'{"hello": "Ada"}\n'
        assert await redis_cli(node, "-3", "RUN", "hello", "name=Ada") == b'{"hello": "Ada"}\n'
        assert (await redis_cli(node, "RUN", "fail")).startswith(b"FAILED job ")
        assert await redis_cli(node, "-x", "RUN", "echo", "STDIN", stdin=b"\xffraw") == b"\xffraw\n"
        assert b"queue:3" in await redis_cli(node, "INFO")


async def test_redis_cli_shows_events_as_they_are_pushed(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        job_id = (await redis_cli(node, "SUBMIT", "nothing")).decode().strip()
        text = await redis_cli(node, "-3", "--show-pushes", "yes", "EVENTS", job_id)
        assert b'"final":true' in text
        assert text.endswith(b"end\n2\n")


async def test_redis_cli_is_told_that_the_token_is_wrong(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        process = await asyncio.create_subprocess_exec(
            tool("redis-cli"),
            *("-p", str(node.port), "-a", "nonsense", "--no-auth-warning", "PING"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert b"WRONGPASS" in out
        assert b"NOAUTH" in out


async def test_redis_cli_reads_the_table_of_commands(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        rows = json.loads(await redis_cli(node, "-3", "--json", "COMMAND", "DOCS", "RUN"))
        assert rows["run"]["summary"].startswith("Run a script")


async def test_redis_benchmark_calls(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        args = (
            "-p",
            str(node.port),
            "-a",
            TOKEN,
            "-n",
            "200",
            "-c",
            "4",
            "-P",
            "4",
            "--csv",
            "RUN",
            "hello",
            "name=Ada",
        )
        text = await shell("redis-benchmark", *args)
        assert b'"RUN hello name=Ada"' in text
        assert len(node.service.entries) >= 200


async def test_nc_speaks_inline_as_on_the_product_page(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        asked = f"AUTH {TOKEN}\r\nRUN hello name=Ada\r\n".encode()
        text = await shell("nc", "-N", "127.0.0.1", str(node.port), stdin=asked)
        assert text == b'+OK\r\n$16\r\n{"hello": "Ada"}\r\n'


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_py_is_a_client(tmp_path: Path, protocol: int) -> None:
    def use(port: int) -> None:
        with redis.Redis(port=port, password=TOKEN, protocol=protocol, client_name="tests") as client:
            assert client.ping()
            assert client.client_getname() in ("tests", b"tests")
            assert client.execute_command("RUN", "hello", "name=Ada") == b'{"hello": "Ada"}'
            with pytest.raises(redis.ResponseError, match=r"FAILED job .* ValueError: no luck"):
                client.execute_command("RUN", "fail")
            pipe = client.pipeline(transaction=False)
            for number in range(50):
                pipe.execute_command("RUN", "hello", f"name:={number}")
            assert pipe.execute() == [b'{"hello": %d}' % number for number in range(50)]
            scripts = client.execute_command("SCRIPTS")
            assert b"hello" in scripts
            assert client.info("JSON")

    async with serving(tmp_path) as node:
        await in_thread(use, node.port)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_py_knows_a_wrong_token(tmp_path: Path, protocol: int) -> None:
    def use(port: int) -> None:
        for token in ("nonsense", None):
            at_once = Retry(NoBackoff(), 0)
            with (
                redis.Redis(port=port, password=token, protocol=protocol, retry=at_once) as client,
                pytest.raises(redis.AuthenticationError),
            ):
                client.ping()

    async with serving(tmp_path) as node:
        await in_thread(use, node.port)


async def test_redis_py_reads_events_on_resp2(tmp_path: Path) -> None:
    def use(port: int) -> list[Any]:
        with redis.Redis(port=port, password=TOKEN, protocol=2, single_connection_client=True) as client:
            job_id = client.execute_command("SUBMIT", "nothing")
            connection = client.connection
            connection.send_command("EVENTS", job_id)
            found = []
            while (message := connection.read_response())[0] == b"event":
                found.append(json.loads(message[1])["kind"])
            assert client.ping()
            return found

    async with serving(tmp_path) as node:
        assert await in_thread(use, node.port) == ["state", "state"]


async def test_redis_py_asyncio_is_a_client_of_the_unix_socket(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        client: Any = redis.asyncio.Redis(unix_socket_path=node.unix_path, password=TOKEN, protocol=3)
        async with client:
            assert await client.execute_command("RUN", "hello", "name=Ada") == b'{"hello": "Ada"}'


async def test_a_browser_gets_a_page_and_a_picture(tmp_path: Path) -> None:
    def get(method: str, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=5)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, body

    async with serving(tmp_path) as node:
        response, body = await asyncio.to_thread(get, "GET", "/")
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Connection"] == "close"
        assert b'<a href="http://127.0.0.1:7461/">' in body
        assert b'src="/test.jpg"' in body
        response, body = await asyncio.to_thread(get, "GET", "/test.jpg")
        assert response.headers["Content-Type"] == "image/jpeg"
        assert body.startswith(b"\xff\xd8\xff")
        assert body.endswith(b"\xff\xd9")
        response, body = await asyncio.to_thread(get, "HEAD", "/")
        assert (response.status, body) == (200, b"")
        response, body = await asyncio.to_thread(get, "GET", "/etc/passwd")
        assert response.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE", "PATCH", "RUN"])
async def test_other_http_methods_run_nothing(tmp_path: Path, method: str) -> None:
    def send() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=5)
        connection.request(method, "/", body=f"AUTH {TOKEN}\r\nRUN hello name=Ada\r\n")
        with pytest.raises(http.client.BadStatusLine) as raised:
            connection.getresponse()
        connection.close()
        return str(raised.value)

    async with serving(tmp_path) as node:
        assert "not HTTP; nothing was run" in await asyncio.to_thread(send)
        assert not node.service.entries
