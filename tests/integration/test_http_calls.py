"""`/run` and the gate before everything, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from remoterun.errors import ServiceError
from remoterun.messages import Job, decode
from remoterun.service import Token
from tests.integration.http_fake import READER, RUNNER, TOKEN, Node, serving

AUTH = {"Authorization": f"Bearer {TOKEN}"}
JOB = "application/vnd.remoterun.job+json"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def http(node: Node) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=node.url, headers=AUTH, trust_env=False) as client:
        yield client


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is the problem and give it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["title"]
    assert body["detail"] == body["message"]
    return body


async def test_a_function_script_answers_its_result(http: httpx2.AsyncClient, node: Node) -> None:
    response = await http.post("/run/hello", json={"name": "Ada"})
    assert response.status_code == 200
    assert response.content == b'{"hello":"Ada"}'
    assert response.headers["content-type"] == "application/json"
    assert response.headers["remoterun-job"] in node.service.jobs
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "options",
    [
        {"data": {"name": "Ada"}},
        {"files": {"name": (None, "Ada")}},
        {"params": {"name": "Ada"}},
        {"params": {"times": "3"}, "json": {"name": "Ada"}},
    ],
)
async def test_parameters_come_from_query_form_and_json(http: httpx2.AsyncClient, options: dict[str, Any]) -> None:
    response = await http.post("/run/hello", **options)
    assert response.json() == {"hello": "Ada"}


async def test_a_name_may_hold_slashes_plain_or_escaped(http: httpx2.AsyncClient) -> None:
    to = {"to": {"x": 1, "y": 2}}
    for path in ("/run/reports/move", "/run/reports%2Fmove"):
        assert (await http.post(path, json=to)).json()["params"] == to


async def test_headers_become_fields_of_the_request(http: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": '"k 1"', "Remoterun-Timeout": "2.5", "traceparent": "00-ab-cd-01"}
    answer = (await http.post("/run/args", json={"args": ["a"]}, headers=headers)).json()
    assert answer == {"params": {"args": ["a"]}, "stdin": None, "timeout": 2.5, "key": "k 1", "trace": "00-ab-cd-01"}


async def test_other_bodies_are_the_stdin_of_a_function_script(http: httpx2.AsyncClient) -> None:
    response = await http.post("/run/args", content=b"text", headers={"Content-Type": "text/plain"})
    assert response.json()["stdin"] == "text"


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ({}, b""),
        ({"json": {"args": ["a", "b"], "stdin": "x"}}, b"a\nbx"),
        ({"params": [("arg", "a"), ("arg", "b")], "content": b"\xff\x00"}, b"a\nb\xff\x00"),
        ({"data": {"arg": ["a", "b"]}}, b"a\nb"),
    ],
)
async def test_a_plain_script_answers_its_stdout(
    http: httpx2.AsyncClient, options: dict[str, Any], printed: bytes
) -> None:
    response = await http.post("/run/echo", **options)
    assert response.status_code == 200
    assert response.content == printed
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["remoterun-exit-code"] == "0"


async def test_output_that_may_not_be_read_is_refused_and_names_the_job(http: httpx2.AsyncClient, node: Node) -> None:
    response = await http.post("/run/echo", headers={"Authorization": f"Bearer {RUNNER}"})
    problem(response, 403, "forbidden")
    assert response.headers["remoterun-job"] in node.service.jobs


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [("fail", 500, "failed"), ("late", 504, "timed_out"), ("picky", 422, "invalid")],
)
async def test_a_job_that_ends_badly_is_a_problem_with_the_job(
    http: httpx2.AsyncClient, script: str, status: int, code: str
) -> None:
    response = await http.post(f"/run/{script}")
    body = problem(response, status, code)
    assert body["job"]["id"] == response.headers["remoterun-job"]
    assert body["job"]["script"] == script


async def test_a_job_that_is_cancelled_is_a_problem(http: httpx2.AsyncClient, node: Node) -> None:
    running = asyncio.create_task(http.post("/run/slow"))
    await node.service.started.wait()
    [job_id] = node.service.jobs
    assert (await http.post(f"/jobs/{job_id}/cancel")).json()["state"] == "cancelled"
    problem(await running, 500, "cancelled")


async def test_whoever_asks_for_the_job_gets_it_however_it_ended(http: httpx2.AsyncClient) -> None:
    for script, state in (("hello", "succeeded"), ("fail", "failed"), ("late", "timed_out"), ("echo", "succeeded")):
        response = await http.post(f"/run/{script}", headers={"Accept": JOB})
        assert response.status_code == 200
        assert response.headers["content-type"] == JOB
        assert decode(response.content, Job).state == state


async def test_a_whole_job_request_may_be_the_body(http: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "application/vnd.remoterun.job-request+json"}
    body = b'{"script":"echo","args":["a"],"stdin_base64":"/w=="}'
    assert (await http.post("/run/echo", content=body, headers=headers)).content == b"a\xff"
    problem(await http.post("/run/hello", content=body, headers=headers), 422, "invalid")


async def test_an_answer_may_come_before_the_end(http: httpx2.AsyncClient, node: Node) -> None:
    for prefer in ("respond-async", "wait=0", "respond-async, wait=0"):
        response = await http.post("/run/slow", headers={"Prefer": prefer})
        assert response.status_code == 202
        assert response.headers["preference-applied"] == prefer
        assert response.headers["location"] == f"/jobs/{response.json()['id']}"
        assert response.json()["state"] == "running"
    node.service.release.set()
    response = await http.post("/run/slow", headers={"Prefer": "wait=60"})
    assert (response.status_code, response.json()) == (200, "done")
    assert response.headers["preference-applied"] == "wait=60"


async def test_a_caller_that_goes_away_cancels_nothing(http: httpx2.AsyncClient, node: Node) -> None:
    reader, writer = await asyncio.open_connection(*node.place)
    head = f"POST /run/slow HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n"
    writer.write(head.encode())
    await node.service.started.wait()
    writer.close()
    await writer.wait_closed()
    [job_id] = node.service.jobs
    node.service.release.set()
    ended = await http.get(f"/jobs/{job_id}", params={"wait": 60})
    assert ended.json()["state"] == "succeeded"
    assert reader.at_eof() or await reader.read() == b""


async def test_the_same_key_gives_the_same_job(http: httpx2.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    first = await http.post("/run/hello", json={"name": "a"}, headers=key)
    again = await http.post("/run/hello", json={"name": "a"}, headers=key)
    assert again.headers["remoterun-job"] == first.headers["remoterun-job"]
    problem(await http.post("/run/hello", json={"name": "b"}, headers=key), 409, "conflict")


@pytest.mark.parametrize(
    ("path", "options", "status", "code"),
    [
        ("/run/nope", {}, 404, "not_found"),
        ("/run/", {}, 404, "not_found"),
        ("/run/../hello", {"extensions": {"target": b"/run/../hello"}}, 404, "not_found"),
        ("/run/hello%00", {}, 404, "not_found"),
        ("/run/HELLO", {}, 404, "not_found"),
        ("/run/bad", {}, 422, "invalid"),
        ("/run/hello", {"json": {"nope": 1}}, 422, "invalid"),
        ("/run/hello", {"json": [1]}, 422, "invalid"),
        ("/run/hello", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "invalid"),
        ("/run/hello", {"content": b"x", "headers": {"Content-Type": "image/png"}}, 415, "invalid"),
        ("/run/hello?name=a", {"json": {"name": "b"}}, 422, "invalid"),
        ("/run/hello", {"headers": {"Idempotency-Key": "a b"}}, 422, "invalid"),
        ("/run/hello", {"headers": {"Remoterun-Timeout": "x"}}, 422, "invalid"),
        ("/run/echo", {"json": {"args": [1]}}, 422, "invalid"),
        ("/run/busy", {}, 429, "busy"),
        ("/run/hello", {"headers": {"Authorization": f"Bearer {READER}"}}, 403, "forbidden"),
    ],
)
async def test_refusals_are_problems(
    http: httpx2.AsyncClient, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    problem(await http.post(path, **options), status, code)


async def test_busy_says_when_to_come_back(http: httpx2.AsyncClient) -> None:
    response = await http.post("/run/busy")
    assert response.headers["retry-after"] == "2"
    assert response.json()["retry_after"] == 1.5


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_post_runs_anything(http: httpx2.AsyncClient, node: Node, method: str) -> None:
    response = await http.request(method, "/run/hello?name=x")
    problem(response, 405, "invalid")
    assert response.headers["allow"] == "POST"
    assert not node.service.jobs


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN} x"])
async def test_without_a_valid_token_nothing_runs(http: httpx2.AsyncClient, node: Node, value: str) -> None:
    response = await http.post("/run/hello", headers={"Authorization": value})
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert not node.service.jobs


async def test_a_token_in_the_address_is_none(node: Node) -> None:
    async with httpx2.AsyncClient(base_url=node.url, trust_env=False) as http:
        for query in ("token", "access_token"):
            problem(await http.post(f"/run/hello?{query}={TOKEN}"), 401, "unauthenticated")


async def test_a_revoked_token_stops_working_on_an_open_connection(http: httpx2.AsyncClient, node: Node) -> None:
    assert (await http.post("/run/hello")).status_code == 200
    secret = node.service.tokens.pop(TOKEN)
    problem(await http.post("/run/hello"), 401, "unauthenticated")
    problem(await http.get("/info"), 401, "unauthenticated")
    node.service.tokens[TOKEN] = secret
    assert (await http.post("/run/hello")).status_code == 200


async def test_a_token_is_proved_once_while_it_is_valid(http: httpx2.AsyncClient, node: Node) -> None:
    for _ in range(3):
        await http.post("/run/hello")
        await http.get("/info")
    assert [(credential, origin.transport) for credential, origin in node.service.authentications] == [
        (Token(TOKEN), "http")
    ]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Host": "evil.example"}, 421, "invalid"),
        ({"Host": "a b"}, 400, "invalid"),
        ({"Origin": "http://evil.example"}, 403, "forbidden"),
        ({"Origin": "null"}, 403, "forbidden"),
    ],
)
@pytest.mark.parametrize("path", ["/run/hello", "/jobs", "/livez", "/nope"])
async def test_other_hosts_and_origins_reach_nothing(
    http: httpx2.AsyncClient, node: Node, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    problem(await http.post(path, headers=headers), status, code)
    assert not node.service.jobs


async def test_there_is_no_cors(http: httpx2.AsyncClient, node: Node) -> None:
    response = await http.post("/run/hello", headers={"Origin": node.url})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    async with serving(tmp_path, max_request=50_000) as node:
        async with httpx2.AsyncClient(base_url=node.url, headers=AUTH, trust_env=False) as http:
            problem(await http.post("/run/args", content=b"x" * 50_001), 413, "too_large")
            problem(await http.post("/run/args", content=chunks()), 413, "too_large")
            problem(await http.post("/jobs", content=b"x" * 50_001), 413, "too_large")
            assert (await http.post("/run/args", content=b"x" * 50_000)).json()["stdin"] == "x" * 50_000
        assert len(node.service.jobs) == 1


async def test_every_code_has_its_status(http: httpx2.AsyncClient, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    from remoterun.errors import BY_CODE
    from remoterun_http.answers import STATUS

    assert STATUS.keys() == BY_CODE.keys()
    for code, status in STATUS.items():

        async def refuse(*_: object, kind: type[ServiceError] = BY_CODE[code]) -> None:
            raise kind("no")

        monkeypatch.setattr("tests.integration.http_fake.FakeSession.submit", refuse)
        problem(await http.post("/run/hello"), status, code)
        problem(await http.post("/jobs", json={"script": "hello"}), status, code)


async def test_a_defect_is_an_internal_problem(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("tests.integration.http_fake.FakeSession.submit", break_down)
    monkeypatch.setattr("tests.integration.http_fake.FakeSession.get_job", break_down)
    for response in (await http.post("/run/hello"), await http.get("/jobs/x")):
        body = problem(response, 500, "internal")
        assert "secret" not in str(body)
    assert len([record for record in caplog.records if record.exc_info]) == 2
    assert TOKEN not in caplog.text
