"""A node traces its jobs: a real collector receives what each kind of job leaves."""

from __future__ import annotations

import json
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from remoterun.errors import NotFound
from remoterun.messages import JobRequest
from remoterun.service import Session
from remoterun.states import State
from remoterun.testing import NodeDidNotStart, RunningNode, running_node
from tests.gateways import running_gateway
from tests.integration.collector import Collector, Received, running_collector

PARENT = "b7ad6b7169203331"

HEADER = """# /// script
# [tool.remoterun]
# {}
# ///
import os, time
from pathlib import Path
"""
TRACED = 'def main() -> str:\n    return os.environ.get("TRACEPARENT", "none")\n'
SCRIPTS = {
    "fork": HEADER.format('isolation = "fork"') + TRACED,
    "warm": HEADER.format('isolation = "warm"') + TRACED,
    "fails": HEADER.format("") + 'def main(word: str):\n    raise ValueError(f"no {word}")\n',
    "flaky": HEADER.format('retries = 1\n# retry_on = ["failed"]\n# retry_delay = "50ms"')
    + "def main(folder: str) -> str:\n"
    + '    with (Path(folder) / "seen").open("a") as file:\n        print(os.environ["TRACEPARENT"], file=file)\n'
    + '    if (Path(folder) / "seen").read_text().count("\\n") < 2:\n        raise OSError("not yet")\n'
    + '    return os.environ["TRACEPARENT"]\n',
    "waits": HEADER.format('retries = 1\n# retry_on = ["lost"]\n# retry_delay = "50ms"')
    + "def main(gate: str) -> str:\n"
    + '    print("waiting", flush=True)\n    while not Path(gate).exists():\n        time.sleep(0.02)\n'
    + '    return os.environ["TRACEPARENT"]\n',
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    for name, text in SCRIPTS.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def node(scripts: Path, collector: Collector) -> Iterator[RunningNode]:
    tracing = {"endpoint": collector.url, "service": "scripts of a test"}
    with running_node(scripts, name="traced-node", tracing=tracing, log_format="json", log_jobs="all") as running:
        yield running


@pytest.fixture
def session(node: RunningNode) -> Iterator[Session]:
    with node.connect() as client:
        yield client.session


@pytest.fixture
def trace() -> str:
    return secrets.token_hex(16)


def call(script: str, trace: str, flags: str = "01", **params: object) -> JobRequest:
    return JobRequest(script=script, params=params or None, trace=f"00-{trace}-{PARENT}-{flags}")


def by_name(spans: list[Received]) -> dict[str, list[Received]]:
    found: dict[str, list[Received]] = {}
    for span in sorted(spans, key=lambda span: span.start):
        found.setdefault(span.name, []).append(span)
    return found


@pytest.mark.parametrize("script", ["fork", "warm"])
def test_a_jobs_span_is_its_callers_child_and_has_what_it_waited_and_ran(
    collector: Collector, session: Session, trace: str, script: str
) -> None:
    job = session.run(call(script, trace))
    found = by_name(collector.whole(trace))
    (run,), (queued,), (running,) = found.pop(f"run {script}"), found.pop("queued"), found.pop("running")
    assert not found
    assert (run.kind, run.parent, run.is_error) == ("SERVER", PARENT, False)
    assert run.attributes == {
        "remoterun.job": job.id,
        "remoterun.script": script,
        "remoterun.principal": job.principal,
        "remoterun.transport": "socket",
        "remoterun.node": "traced-node",
        "remoterun.state": "succeeded",
        "remoterun.attempt": 1,
        "remoterun.recovered": False,
        "process.exit.code": 0,
    }
    assert run.resource["service.name"] == "scripts of a test"
    assert run.resource["service.instance.id"] == "traced-node"
    assert {span.kind for span in (queued, running)} == {"INTERNAL"}
    assert {span.parent for span in (queued, running)} == {run.id}
    assert run.start <= queued.start <= queued.end <= running.start <= running.end <= run.end
    assert job.result == running.traceparent, "the script's own spans would not be children of its attempt"
    assert collector.paths == {"/v1/traces"}


def test_a_call_without_a_context_begins_a_trace(collector: Collector, node: RunningNode, session: Session) -> None:
    job = session.run(JobRequest(script="fork"))
    _, trace, _, flags = str(job.result).split("-")
    assert flags == "01"
    (run,) = by_name(collector.whole(trace))["run fork"]
    assert run.parent == ""
    assert [record["trace"] for record in map(json.loads, node.log().splitlines()) if record.get("job") == job.id] == [
        trace
    ], "the log does not lead to the trace"


def test_calls_one_after_the_other_at_a_warm_worker_have_each_their_own(collector: Collector, session: Session) -> None:
    said = {str(session.run(JobRequest(script="warm")).result) for _ in range(200)}
    assert len({text.split("-")[1] for text in said}) == 200
    collector.wait(lambda: said <= {span.traceparent for span in collector.spans if span.name == "running"})


def test_a_callers_flag_not_to_sample_is_kept(collector: Collector, session: Session, trace: str) -> None:
    job = session.run(call("fork", trace, "00"))
    assert re.fullmatch(f"00-{trace}-[0-9a-f]{{16}}-00", str(job.result))
    later = secrets.token_hex(16)
    session.run(call("fork", later))
    collector.whole(later)
    assert collector.of(trace) == []


def test_a_failure_is_an_error_without_its_text(collector: Collector, session: Session, trace: str) -> None:
    session.run(call("fails", trace, word="canary"))
    spans = collector.whole(trace)
    found = by_name(spans)
    for span in (*found["run fails"], *found["running"]):
        assert (span.is_error, span.message) == (True, "ValueError")
        assert span.attributes["remoterun.state"] == "failed"
        assert span.attributes["process.exit.code"] == 1
    assert found["run fails"][0].attributes["error.type"] == "ValueError"
    assert not found["queued"][0].is_error
    assert "canary" not in repr(spans)


def test_each_attempt_has_its_own_spans(collector: Collector, session: Session, trace: str, tmp_path: Path) -> None:
    job = session.run(call("flaky", trace, folder=str(tmp_path)))
    assert job.state is State.SUCCEEDED
    found = by_name(collector.whole(trace))
    (run,), queued, (failed, succeeded) = found["run flaky"], found["queued"], found["running"]
    assert [span.attributes["remoterun.attempt"] for span in (failed, succeeded)] == [1, 2]
    assert [span.is_error for span in (failed, succeeded, run)] == [True, False, False]
    assert (tmp_path / "seen").read_text().split() == [failed.traceparent, succeeded.traceparent]
    first, second = queued
    assert first.end <= failed.start <= failed.end <= second.start <= second.end <= succeeded.start


def test_a_job_that_is_cancelled_is_an_error(
    collector: Collector, session: Session, trace: str, tmp_path: Path
) -> None:
    job = session.submit(call("waits", trace, gate=str(tmp_path / "never")))
    next(event for event in session.events(job.id) if event.n >= 3)
    session.cancel(job.id)
    found = by_name(collector.whole(trace))
    assert [span.message for span in (*found["run waits"], *found["running"])] == ["cancelled", "cancelled"]


def test_a_refused_call_is_a_span_with_its_code(collector: Collector, session: Session, trace: str) -> None:
    with pytest.raises(NotFound):
        session.run(call("no/such", trace))
    (span,) = collector.whole(trace)
    assert (span.name, span.parent, span.is_error, span.message) == ("run", PARENT, True, "not_found")
    assert span.attributes["remoterun.script"] == "no/such"
    assert span.attributes["error.type"] == "not_found"


def test_the_context_passes_through_a_gateway(
    collector: Collector, node: RunningNode, trace: str, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {node.token}", "traceparent": f"00-{trace}-{PARENT}-01"}
    with running_gateway(node.urls["unix"], tmp_path) as url:
        answer = httpx2.post(f"{url}/run/fork", json={}, headers=headers)
    found = by_name(collector.whole(trace))
    (run,), (running,) = found["run fork"], found["running"]
    assert (run.parent, run.attributes["remoterun.transport"]) == (PARENT, "http")
    assert answer.json() == running.traceparent


def test_a_job_that_outlives_its_node_goes_on_in_its_callers_trace(
    collector: Collector, scripts: Path, trace: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with running_node(scripts, data=tmp_path / "data", tracing={"endpoint": collector.url}) as node:
        with node.connect() as client:
            job = client.session.submit(call("waits", trace, gate=str(gate)))
            next(event for event in client.session.events(job.id) if event.n >= 3)
        node.kill()
        gate.touch()
        node.start()
        with node.connect() as client:
            ended = client.session.wait(job.id)
    assert ended.state is State.SUCCEEDED
    found = by_name(collector.whole(trace))
    (run,), (running,) = found["run waits"], found["running"]
    assert run.parent == PARENT
    assert run.attributes["remoterun.recovered"] is True
    assert run.attributes["remoterun.attempt"] == 2
    assert ended.result == running.traceparent


def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_collector_that_is_down_holds_up_nothing_and_is_named_once(scripts: Path) -> None:
    address = unused_address()
    with running_node(scripts, tracing={"endpoint": address}) as node, node.connect() as client:
        deadline = time.monotonic() + 60
        while "do not arrive" not in node.log():
            assert client.run("warm")
            assert time.monotonic() < deadline
        for _ in range(500):
            client.run("warm")
        client.close()
        assert node.stop() == 0
        assert node.log().count("WARNING") == node.log().count(f"spans do not arrive at {address}") == 1


def test_without_tracing_the_callers_own_context_reaches_the_script(
    node: RunningNode, scripts: Path, trace: str
) -> None:
    with running_node(scripts) as untraced, untraced.connect() as client:
        assert client.session.run(call("fork", trace)).result == f"00-{trace}-{PARENT}-01"
        assert not has_protobuf(untraced), "the SDK is loaded though nothing is traced"
    assert has_protobuf(node)


def has_protobuf(node: RunningNode) -> bool:
    """Tell whether a node has loaded protobuf's extension module, which the exporter needs."""
    return "/google/_upb/" in Path(f"/proc/{node.pid}/maps").read_text()


def test_a_node_whose_extra_is_missing_says_how_to_get_it(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError('none', name='opentelemetry')\n")
    tracing = {"endpoint": unused_address()}
    with (
        pytest.raises(NodeDidNotStart, match=r"pip install 'remoterun\[otel\]'") as failed,
        running_node(scripts, tracing=tracing, env={"PYTHONPATH": str(tmp_path)}),
    ):
        pass
    assert failed.value.exit_code == 125
