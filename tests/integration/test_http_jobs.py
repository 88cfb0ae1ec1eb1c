"""Every route beside `/run`, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from remoterun.messages import Job, JobPage, NodeInfo, ScriptInfo, decode
from tests.integration.http_fake import HOSTILE, PICTURE, READER, RUNNER, SCRIPTS, TOKEN, Node, serving

AUTH = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture
async def http(node: Node) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=node.url, headers=AUTH, trust_env=False) as client:
        yield client


def refused(response: httpx2.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code


async def submit(http: httpx2.AsyncClient, script: str, **fields: Any) -> str:
    response = await http.post("/jobs", json={"script": script, **fields})
    assert response.status_code == 201, response.text
    job: Job = decode(response.content, Job)
    assert response.headers["location"] == f"/jobs/{job.id}"
    return job.id


async def test_a_submitted_job_is_found_and_waited_for(http: httpx2.AsyncClient, node: Node) -> None:
    job_id = await submit(http, "slow")
    assert (await http.get(f"/jobs/{job_id}")).json()["state"] == "running"
    assert (await http.get(f"/jobs/{job_id}", params={"wait": 0})).json()["state"] == "running"
    waiting = asyncio.create_task(http.get(f"/jobs/{job_id}", params={"wait": 60}))
    node.service.release.set()
    assert (await waiting).json()["result"] == "done"


async def test_jobs_are_listed_in_pages_that_links_join(http: httpx2.AsyncClient) -> None:
    ids = [await submit(http, "hello") for _ in range(5)]
    await submit(http, "echo")
    found: list[str] = []
    url = "/jobs?script=hello&limit=2"
    while url:
        response = await http.get(url)
        page: JobPage = decode(response.content, JobPage)
        found += [job.id for job in page.jobs]
        link = response.headers.get("link", "")
        assert bool(link) is (page.next is not None)
        url = link.partition("<")[2].partition(">")[0]
    assert found == ids[::-1]


async def test_jobs_are_chosen_by_state_and_time(http: httpx2.AsyncClient) -> None:
    await submit(http, "hello")
    failed = await submit(http, "fail")
    assert [job["id"] for job in (await http.get("/jobs?state=failed")).json()["jobs"]] == [failed]
    assert (await http.get("/jobs?since=2999-01-01T00:00:00Z")).json() == {"jobs": [], "next": None}
    assert len((await http.get("/jobs?until=2999-01-01T00:00:00Z")).json()["jobs"]) == 2


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=1&limit=2",
        "state=odd",
        "state=null",
        "since=1",
        "since=2026-01-01T00:00:00",
        "nope=1",
    ],
)
async def test_a_bad_query_is_invalid(http: httpx2.AsyncClient, query: str) -> None:
    refused(await http.get(f"/jobs?{query}"), 422, "invalid")


async def test_a_job_is_cancelled_and_run_again(http: httpx2.AsyncClient, node: Node) -> None:
    job_id = await submit(http, "slow")
    refused(await http.post(f"/jobs/{job_id}/rerun"), 409, "conflict")
    assert (await http.post(f"/jobs/{job_id}/cancel")).json()["state"] == "cancelled"
    node.service.release.set()
    again = await http.post(f"/jobs/{job_id}/rerun?newest=true")
    assert again.status_code == 201
    assert again.json()["rerun_of"] == job_id
    assert again.headers["location"] == f"/jobs/{again.json()['id']}"
    refused(await http.post(f"/jobs/{job_id}/rerun?newest=perhaps"), 422, "invalid")


@pytest.mark.parametrize(
    ("query", "output"), [("", b"noise\na\nb\xff"), ("?stream=stdout", b"a\nb\xff"), ("?stream=stderr", b"noise\n")]
)
async def test_output_is_what_was_written(http: httpx2.AsyncClient, query: str, output: bytes) -> None:
    job_id = await submit(http, "echo", args=["a", "b"], stdin_base64="/w==")
    response = await http.get(f"/jobs/{job_id}/output{query}")
    assert response.content == output
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    refused(await http.get(f"/jobs/{job_id}/output?stream=x"), 422, "invalid")


async def read_events(http: httpx2.AsyncClient, path: str, **headers: str) -> list[httpx2.ServerSentEvent]:
    async with http.sse(path, headers=headers) as source:
        return [event async for event in source]


async def test_events_are_server_sent_events(http: httpx2.AsyncClient) -> None:
    job_id = await submit(http, "draw")
    events = await read_events(http, f"/jobs/{job_id}/events")
    assert [event.id for event in events] == ["1", "2", "3", "4", "5", "6"]
    assert [event.event for event in events] == ["state", "state", "progress", "artifact", "artifact", "state"]
    assert json.loads(events[-1].data)["final"] is True


async def test_events_resume_after_a_number(http: httpx2.AsyncClient) -> None:
    job_id = await submit(http, "draw")
    path = f"/jobs/{job_id}/events"
    assert [event.id for event in await read_events(http, path, **{"Last-Event-ID": "4"})] == ["5", "6"]
    assert [event.id for event in await read_events(http, f"{path}?after=5")] == ["6"]
    assert (await http.get(path, headers={"Last-Event-ID": "6"})).status_code == 204
    for wrong in ("x", "-1", "1.5", "9" * 30):
        refused(await http.get(path, headers={"Last-Event-ID": wrong}), 422, "invalid")


async def test_events_come_live_and_end_with_the_final_one(http: httpx2.AsyncClient, node: Node) -> None:
    job_id = await submit(http, "slow")
    async with http.sse(f"/jobs/{job_id}/events?after=1") as source:
        events = aiter(source)
        assert (await anext(events)).id == "2"
        node.service.release.set()
        rest = [event async for event in events]
    assert [event.event for event in rest] == ["output", "state"]


async def test_events_are_lines_of_json_for_whoever_asks(http: httpx2.AsyncClient) -> None:
    job_id = await submit(http, "hello")
    response = await http.get(f"/jobs/{job_id}/events", headers={"Accept": "application/x-ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["n"] for line in response.text.splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("path", ["events", "output"])
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_streams_ask_a_proxy_not_to_buffer_them(http: httpx2.AsyncClient, path: str, accept: str) -> None:
    job_id = await submit(http, "hello")
    response = await http.get(f"/jobs/{job_id}/{path}", headers={"Accept": accept})
    assert response.headers["x-accel-buffering"] == "no"


async def test_silence_is_filled_with_comments(
    http: httpx2.AsyncClient, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remoterun_http.routes.KEEPALIVE", 0.01)
    job_id = await submit(http, "slow")
    async with http.stream("GET", f"/jobs/{job_id}/events") as response:
        lines = response.aiter_lines()
        async for line in lines:
            if line.startswith(":"):
                break
        node.service.release.set()
        assert [line async for line in lines if line.startswith("event")] == ["event: output", "event: state"]


async def test_a_revoked_token_ends_a_stream_with_the_problem(http: httpx2.AsyncClient, node: Node) -> None:
    job_id = await submit(http, "slow")
    async with http.sse(f"/jobs/{job_id}/events?after=1") as source:
        events = aiter(source)
        await anext(events)
        del node.service.tokens[TOKEN]
        node.service.release.set()
        rest = [event async for event in events]
    assert [event.event for event in rest] == ["problem"]
    assert json.loads(rest[0].data)["code"] == "unauthenticated"


async def test_artifacts_are_listed_and_sent(http: httpx2.AsyncClient) -> None:
    job_id = await submit(http, "draw")
    listed = (await http.get(f"/jobs/{job_id}/artifacts")).json()["artifacts"]
    assert [each["name"] for each in listed] == ["plot.png", 'odd/é".svg']
    picture = await http.get(f"/jobs/{job_id}/artifacts/plot.png")
    assert picture.content == PICTURE
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["content-disposition"].startswith("inline")
    drawing = await http.get(f"/jobs/{job_id}/artifacts/odd/%C3%A9%22.svg")
    assert drawing.content.startswith(b"<svg")
    assert drawing.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in drawing.headers["content-security-policy"]
    for name in ("nope", "../../etc/passwd", "..%2f..%2fetc%2fpasswd"):
        refused(await http.get(f"/jobs/{job_id}/artifacts/{name}"), 404, "not_found")


async def test_scripts_are_listed_and_described(http: httpx2.AsyncClient) -> None:
    assert [each["name"] for each in (await http.get("/scripts")).json()["scripts"]] == sorted(SCRIPTS)
    assert [each["name"] for each in (await http.get("/scripts?pattern=re*")).json()["scripts"]] == ["reports/move"]
    for path in ("/scripts/reports/move", "/scripts/reports%2Fmove"):
        assert decode((await http.get(path)).content, ScriptInfo) == SCRIPTS["reports/move"]


async def test_the_node_describes_itself(http: httpx2.AsyncClient) -> None:
    response = await http.get("/info")
    assert decode(response.content, NodeInfo).node == "fake"
    assert response.headers["remoterun-principal"] == "ada"
    assert (await http.get("/refusals?limit=1")).json()["refusals"][0]["code"] == "busy"
    metrics = await http.get("/metrics")
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'remoterun_build_info{node="fake",version="0",python="3"} 1' in metrics.text


async def test_probes_need_no_token(node: Node) -> None:
    async with httpx2.AsyncClient(base_url=node.url, trust_env=False) as anyone:
        assert (await anyone.get("/livez")).json() == {"alive": True}
        assert (await anyone.get("/readyz")).json() == {"ready": True}
        node.state["ready"] = False
        refused(await anyone.get("/readyz"), 503, "unavailable")
        assert (await anyone.get("/livez")).status_code == 200


async def test_pages_show_scripts_to_callers_only(http: httpx2.AsyncClient, node: Node) -> None:
    async with httpx2.AsyncClient(base_url=node.url, trust_env=False) as anyone:
        for path in ("/docs", "/openapi.json"):
            seen, hidden = await http.get(path), await anyone.get(path)
            assert seen.status_code == hidden.status_code == 200
            assert "reports/move" in seen.text
            assert "reports/move" not in hidden.text
            if path != "/openapi.json":
                assert HOSTILE not in seen.text
                assert "default-src 'none'" in seen.headers["content-security-policy"]
            refused(await http.get(path, headers={"Authorization": "Bearer wrong"}), 401, "unauthenticated")


GUARDED = [
    ("POST", "/jobs"),
    ("GET", "/jobs"),
    ("GET", "/jobs/x"),
    ("POST", "/jobs/x/cancel"),
    ("POST", "/jobs/x/rerun"),
    ("GET", "/jobs/x/output"),
    ("GET", "/jobs/x/events"),
    ("GET", "/jobs/x/artifacts"),
    ("GET", "/jobs/x/artifacts/y"),
    ("GET", "/scripts"),
    ("GET", "/scripts/hello"),
    ("GET", "/refusals"),
    ("GET", "/info"),
    ("GET", "/metrics"),
    ("GET", "/tokens"),
    ("POST", "/tokens"),
    ("DELETE", "/tokens/x"),
    ("POST", "/backups"),
]
PUBLIC = {("GET", "/livez"), ("GET", "/readyz")}


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_every_route_needs_a_token(node: Node, method: str, path: str) -> None:
    async with httpx2.AsyncClient(base_url=node.url, trust_env=False) as anyone:
        refused(await anyone.request(method, path), 401, "unauthenticated")
        wrong = {"Authorization": "Bearer wrong"}
        refused(await anyone.request(method, path, headers=wrong), 401, "unauthenticated")


async def test_no_route_is_missing_from_the_table(http: httpx2.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    known = {(method, path.count("/")) for method, path in GUARDED} | {(m, p.count("/")) for m, p in PUBLIC}
    operations = [
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if not path.startswith("/run/")
    ]
    assert {(method, path.count("/")) for method, path in operations} == known
    assert len(operations) == len(GUARDED) + len(PUBLIC)


async def test_scopes_are_the_services_own(http: httpx2.AsyncClient) -> None:
    job_id = await submit(http, "hello")
    runner, reader = {"Authorization": f"Bearer {RUNNER}"}, {"Authorization": f"Bearer {READER}"}
    refused(await http.get(f"/jobs/{job_id}", headers=runner), 403, "forbidden")
    refused(await http.get(f"/jobs/{job_id}", headers=reader), 404, "not_found")
    refused(await http.post("/jobs", json={"script": "hello"}, headers=reader), 403, "forbidden")
    refused(await http.get("/refusals", headers=reader), 403, "forbidden")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/jobs/", 404, "not_found"),
        ("GET", "/jobs/nope", 404, "not_found"),
        ("POST", "/jobs/nope/cancel", 404, "not_found"),
        ("POST", "/jobs/nope/rerun", 404, "not_found"),
        ("GET", "/jobs/nope/events", 404, "not_found"),
        ("GET", "/jobs/nope/output", 404, "not_found"),
        ("GET", "/jobs/nope/artifacts", 404, "not_found"),
        ("GET", "/jobs/nope/artifacts/x", 404, "not_found"),
        ("GET", "/jobs/nope?wait=1", 404, "not_found"),
        ("GET", "/jobs/nope?wait=x", 422, "invalid"),
        ("GET", "/jobs/nope?wait=inf", 422, "invalid"),
        ("GET", "/jobs/nope?wait=-1", 422, "invalid"),
        ("GET", "/jobs/nope/events?after=x", 422, "invalid"),
        ("GET", "/scripts/nope", 404, "not_found"),
        ("GET", "/refusals?limit=0", 422, "invalid"),
        ("PUT", "/jobs", 405, "invalid"),
        ("DELETE", "/jobs/x", 405, "invalid"),
        ("HEAD", "/", 405, "invalid"),
    ],
)
async def test_errors_are_problems(http: httpx2.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    if method != "HEAD":
        assert response.json()["code"] == code


async def test_a_wrong_method_says_which_are_taken(http: httpx2.AsyncClient) -> None:
    assert (await http.put("/jobs")).headers["allow"] == "GET, POST"
    assert (await http.post("/livez")).headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 422),
        (b"{", "application/json", 422),
        (b'{"params":{}}', "application/json", 422),
        (b'{"script":"hello","nope":1}', "application/json", 422),
        (b'{"script":"nope"}', "application/json", 404),
        (b'{"script":"hello"}', "text/plain", 415),
    ],
)
async def test_a_bad_job_request_is_refused(
    http: httpx2.AsyncClient, node: Node, body: bytes, kind: str, status: int
) -> None:
    response = await http.post("/jobs", content=body, headers={"Content-Type": kind})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert not node.service.jobs
