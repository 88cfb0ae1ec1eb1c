"""Callers that no one here wrote: curl, and schemathesis as a hostile one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.http_fake import TOKEN, Node, serving

SCHEMATHESIS = Path(sys.executable).with_name("st")
EXAMPLES = 4
# Not `positive_data_acceptance`: a script may refuse what its schema allows. Not `negative_data_rejection`: a header
# that the document does not name is no error in HTTP.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,ignored_auth,use_after_free"
)


def tool(name: str) -> str:
    """Give the path of a system tool; without it skip on a laptop, fail in CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with serving(tmp_path) as running:
        yield running


async def execute(*command: str, stdin: bytes = b"", cwd: Path | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
    )
    output, _ = await process.communicate(stdin)
    return process.returncode or 0, output.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["--json", '{"name": "Ada"}', "/run/hello"], b"", '{"hello":"Ada"}'),
        (["-d", "name=Ada", "/run/hello"], b"", '{"hello":"Ada"}'),
        (["-F", "name=Ada", "/run/hello"], b"", '{"hello":"Ada"}'),
        (["-X", "POST", "/run/hello?name=Ada"], b"", '{"hello":"Ada"}'),
        (["--json", "@-", "/run/hello"], b'{"name": "Ada"}', '{"hello":"Ada"}'),
        (["-X", "POST", "/run/echo?arg=a&arg=b%20c"], b"", "a\nb c"),
        (["-H", "Content-Type: text/plain", "--data-binary", "@-", "/run/echo?arg=a"], b"\n1\n2\n", "a\n1\n2\n"),
        (["-T", "-", "-X", "POST", "/run/echo"], b"piped\n", "piped\n"),
        (["-X", "POST", "-w", "%{http_code}", "-o", "/dev/null", "/run/fail"], b"", "500"),
        (
            ["-X", "POST", "-H", "Prefer: respond-async", "-w", "%{http_code}", "-o", "/dev/null", "/run/hello"],
            b"",
            "200",
        ),
    ],
)
async def test_curl_calls_scripts(node: Node, arguments: list[str], stdin: bytes, expected: str) -> None:
    *options, path = arguments
    token = ["-H", f"Authorization: Bearer {TOKEN}"]
    code, output = await execute(tool("curl"), "-sS", *token, *options, f"{node.url}{path}", stdin=stdin)
    assert (code, output) == (0, expected)


async def test_curl_follows_events(node: Node) -> None:
    token = ["-H", f"Authorization: Bearer {TOKEN}"]
    await execute(tool("curl"), "-sS", *token, "-d", "name=Ada", f"{node.url}/run/hello")
    [job_id] = node.service.jobs
    code, output = await execute(tool("curl"), "-sSN", *token, f"{node.url}/jobs/{job_id}/events")
    assert code == 0
    assert output.count("event: state\n") == 3


async def test_schemathesis_finds_nothing(node: Node, tmp_path: Path) -> None:
    node.service.release.set()
    code, output = await execute(
        str(SCHEMATHESIS),
        "run",
        f"{node.url}/openapi.json",
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--checks", CHECKS),
        *("--max-examples", str(EXAMPLES), "--seed", "1", "--generation-deterministic"),
        *("--exclude-path-regex", "^/run/(fail|late)$"),  # jobs that fail are 5xx by design
        "--no-color",
        cwd=tmp_path,
    )
    assert code == 0, output
    assert "Tested: " in output
