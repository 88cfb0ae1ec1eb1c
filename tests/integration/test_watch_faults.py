"""What one watches a node for: its metrics, spans and log when a disk, a broker, an environment or a caller fails."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import UnsetType

from remoterun.errors import Busy, Unavailable
from remoterun.failpoints import VARIABLE
from remoterun.messages import JobRequest
from remoterun.service import Session
from remoterun.testing import RunningNode, running_node
from tests.brokers.rabbitmq import RabbitMQ
from tests.integration.collector import running_collector
from tests.integration.packages import OFFLINE, script
from tests.integration.rabbitmq_node import behind, settings_for

_PATIENCE = 60.0  # seconds
HELLO = 'def main() -> str:\n    return "hello"\n'
WAITS = (
    "import time\nfrom pathlib import Path\n\ndef main(gate: str):\n"
    '    print("waiting", flush=True)\n    while not Path(gate).exists():\n        time.sleep(0.02)\n'
)
LATE = "import remoterun_late\n\ndef main() -> int:\n    return remoterun_late.VALUE\n"


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "hello.py").write_text(HELLO)
    (folder / "waits.py").write_text(WAITS)
    return folder


def value(session: Session, name: str, *labels: str) -> float:
    """Give the value of a metric; of a histogram, how much was counted."""
    samples = session.info(metrics=True).metrics
    assert not isinstance(samples, UnsetType)
    (found,) = [sample for sample in samples if (sample.metric, sample.labels) == (name, labels)]
    return sum(found.buckets) if found.buckets else found.value


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_disk_that_fails_is_a_fault_and_the_node_not_ready(scripts: Path) -> None:
    fails = {VARIABLE: "store.before_commit=error:ENOSPC"}
    with running_node(scripts, env=fails) as node, node.connect() as client:
        assert value(client.session, "remoterun_store_fault") == 0
        with pytest.raises(Unavailable):
            client.submit("hello")
        assert value(client.session, "remoterun_store_fault") == 1
        assert value(client.session, "remoterun_ready") == 0
        assert value(client.session, "remoterun_store_commit_failures_total") >= 1
        assert value(client.session, "remoterun_store_commit_seconds") == 0
        assert value(client.session, "remoterun_refusals_total", "unavailable") == 1


def test_a_full_queue_is_seen_in_gauges_and_refusals(scripts: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with running_node(scripts, workers=1, queue=2) as node, node.connect() as client:
        session = client.session
        request = JobRequest(script="waits", params={"gate": str(gate)})
        jobs = [session.submit(request) for _ in range(3)]
        with pytest.raises(Busy):
            session.submit(request)
        assert value(session, "remoterun_jobs_queued") == value(session, "remoterun_queue_limit") == 2
        assert value(session, "remoterun_refusals_total", "busy") == 1
        gate.touch()
        for job in jobs:
            session.wait(job.id)
        assert value(session, "remoterun_job_queue_seconds") == 3


def test_an_environment_that_cannot_be_built_is_counted(scripts: Path) -> None:
    (scripts / "late.py").write_text(script(["remoterun-late==1.0"], LATE))
    with running_node(scripts, env=OFFLINE) as node, node.connect() as client:
        job = client.session.run(JobRequest(script="late"))
        assert job.error is not None
        assert job.error.type == "EnvironmentFailed"
        assert value(client.session, "remoterun_environments_failing") == 1
        assert value(client.session, "remoterun_environment_builds_total", "failed") >= 1
        assert value(client.session, "remoterun_environment_builds_total", "built") == 0
        assert value(client.session, "remoterun_jobs_ended_total", "late", "failed") == 1


def test_a_request_that_is_none_is_logged_by_the_servers_library_in_our_format(scripts: Path) -> None:
    with running_node(scripts, log_format="json") as node:
        host, _, port = node.urls["http"].removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as wire:
            wire.sendall(b"\x00\x01 no request\r\n\r\n")
            wire.recv(1000)
        until(lambda: "uvicorn" in node.log())
        assert node.stop() == 0
        loggers = {json.loads(line)["logger"] for line in node.log().splitlines()}
    assert "uvicorn.error" in loggers


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_broker_that_is_out_of_reach_is_seen_and_every_line_about_it_is_a_record(scripts: Path) -> None:
    settings = settings_for(f"amqp://guest:guest@127.0.0.1:{unused_port()}/%2F")
    with running_node(scripts, **settings, log_format="json", log_level="debug") as node, node.connect() as client:
        assert value(client.session, "remoterun_broker_up", "rabbitmq") == 0
        until(lambda: "trying again until it is back" in node.log())
        client.close()
        assert node.stop() == 0
        for line in node.log().splitlines():
            json.loads(line)


def test_a_call_from_a_queue_is_consumed_in_its_publishers_trace(rabbitmq: RabbitMQ, scripts: Path) -> None:
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    with (
        running_collector() as collector,
        behind(rabbitmq, scripts, tracing={"endpoint": collector.url}) as queue,
    ):
        with queue.node.connect() as client:
            until(lambda: value(client.session, "remoterun_broker_up", "rabbitmq") == 1)
        headers = {"traceparent": f"00-{trace}-{parent}-01"}
        queue.publish({"script": "hello"}, message_id=secrets.token_hex(8), headers=headers)
        (run,) = [span for span in collector.whole(trace) if span.is_jobs]
        assert (run.kind, run.parent, run.attributes["remoterun.transport"]) == ("CONSUMER", parent, "rabbitmq")
        exported = count_of_spans(queue.node, "exported")
    assert exported >= 3


def count_of_spans(node: RunningNode, result: str) -> float:
    with node.connect() as client:
        until(lambda: value(client.session, "remoterun_trace_spans_total", result))
        return value(client.session, "remoterun_trace_spans_total", result)
