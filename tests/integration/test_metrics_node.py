"""The metrics of a real node: they move as things happen, through gateways and HTTP processes too."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from msgspec import UNSET
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from remoterun.errors import NotFound
from remoterun.messages import JobRequest
from remoterun.metrics import METRICS
from remoterun.testing import RunningNode, running_node
from tests.certificates import Authority
from tests.gateways import running_gateway

SCRIPTS = {
    "hello": '# /// script\n# [tool.remoterun]\n# isolation = "warm"\n# ///\ndef main() -> str:\n    return "hello"\n',
    "fails": "def main():\n    raise ValueError\n",
    "waits": "import time\nfrom pathlib import Path\n\ndef main(gate: str):\n"
    '    print("waiting", flush=True)\n    while not Path(gate).exists():\n        time.sleep(0.02)\n',
    "broken": "def main(: int): ...\n",
}
ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"

Values = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    for name, text in SCRIPTS.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def node(scripts: Path) -> Iterator[RunningNode]:
    with running_node(scripts, name="m1", workers=1) as running:
        yield running


def read(node: RunningNode, url: str = "", token: str = "") -> Values:
    headers = {"Authorization": f"Bearer {token or node.token}", "Accept": ACCEPT}
    answer = httpx2.get(f"{url or node.urls['http']}/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


def wait_until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_node_has_every_metric_but_those_of_what_it_does_not_use(node: RunningNode) -> None:
    with node.connect() as client:
        client.run("hello")
        info = client.session.info(metrics=True)
    assert info.metrics is not UNSET
    found = {sample.metric for sample in info.metrics}
    unused = {
        "remoterun_broker_up",
        "remoterun_certificate_expiry_timestamp_seconds",
        "remoterun_trace_spans_total",
    }
    assert found == set(METRICS) - unused


def test_metrics_travel_only_where_they_are_asked_for(node: RunningNode) -> None:
    for scheme in ("unix", "http", "rpyc", "zmq"):
        with node.connect(scheme, node.token) as client:
            assert client.session.info().metrics is UNSET
            assert client.session.info(metrics=True).metrics is not UNSET


def test_jobs_and_refusals_are_counted(node: RunningNode) -> None:
    before = read(node)
    with node.connect() as client:
        for _ in range(3):
            client.run("hello")
        client.session.run(JobRequest(script="fails"))
        with pytest.raises(NotFound):
            client.run("no/such")
    after = read(node)

    def grown(name: str, **labels: str) -> float:
        return after[key(name, **labels)] - before.get(key(name, **labels), 0)

    assert grown("remoterun_jobs_ended_total", script="hello", state="succeeded") == 3
    assert grown("remoterun_jobs_ended_total", script="fails", state="failed") == 1
    assert after[key("remoterun_jobs_ended_total", script="fails", state="lost")] == 0
    assert grown("remoterun_job_run_seconds_count", script="hello") == 3
    assert grown("remoterun_job_queue_seconds_count") == 4
    assert grown("remoterun_refusals_total", code="not_found") == 1
    assert grown("remoterun_refusals_total", code="busy") == 0
    assert grown("process_cpu_seconds_total") > 0


def test_what_is_under_way_is_seen_as_it_is(node: RunningNode, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with node.connect() as client:
        jobs = [client.session.submit(JobRequest(script="waits", params={"gate": str(gate)})) for _ in range(3)]
        next(event for event in client.session.events(jobs[0].id) if event.n >= 3)
        now = read(node)
        gate.touch()
        for job in jobs:
            client.session.wait(job.id)
    assert now[key("remoterun_jobs_running")] == now[key("remoterun_workers")] == 1
    assert now[key("remoterun_jobs_queued")] == 2
    assert now[key("remoterun_queue_bytes")] > 2 * len(str(gate))
    assert now[key("remoterun_worker_processes", state="busy")] == 1
    assert now[key("remoterun_scripts_broken")] == 1
    assert now[key("remoterun_ready")] == 1
    assert now[key("remoterun_tokens")] >= 1
    assert now[key("remoterun_build_info", node="m1", version="0.1.0", python=python())] == 1
    ended = read(node)
    assert ended[key("remoterun_jobs_running")] == ended[key("remoterun_jobs_queued")] == 0
    assert ended[key("remoterun_store_commit_seconds_count")] > now[key("remoterun_store_commit_seconds_count")]


def test_connections_are_counted_while_they_are_open(scripts: Path) -> None:
    with running_node(scripts) as own:

        def count() -> float:
            return read(own)[key("remoterun_connections", transport="socket")]

        host, _, port = own.urls["tcp"].removeprefix("tcp://").partition(":")
        assert count() == 0
        with contextlib.ExitStack() as wires:
            for _ in range(3):
                wires.enter_context(socket.create_connection((host, int(port))))
            wait_until(lambda: count() == 3)
        wait_until(lambda: count() == 0)
        assert read(own)[key("remoterun_connections", transport="http")] >= 1, "the one that asks"


def python() -> str:
    import platform

    return platform.python_version()


def test_sizes_are_the_files_and_the_disks(node: RunningNode) -> None:
    found, disk = read(node), os.statvfs(node.data)
    files = [node.data / name for name in ("remoterun.sqlite3", "remoterun.sqlite3-wal")]
    assert 0 < found[key("remoterun_store_size_bytes")] <= sum(file.stat().st_size for file in files)
    assert found[key("remoterun_data_size_bytes")] == disk.f_blocks * disk.f_frsize
    assert 0 < found[key("remoterun_data_free_bytes")] < found[key("remoterun_data_size_bytes")]
    assert 0 < found[key("process_open_fds")] < found[key("process_max_fds")]
    assert 2**24 < found[key("process_resident_memory_bytes")] < 2**31


def test_who_may_not_read_hears_no_scripts_names(node: RunningNode) -> None:
    with node.connect() as client:
        client.run("hello")
    token = node.new_token(["run:hello"], name="runs-only")
    names = {name for name, labels in read(node, token=token) if dict(labels).get("script")}
    assert names == set()
    assert key("remoterun_workers") in read(node, token=token)
    assert {name for name, labels in read(node) if dict(labels).get("script")} != set()


def test_tokens_that_expire_soon_are_counted_unless_they_were_made_for_a_short_while(scripts: Path) -> None:
    with running_node(scripts) as node:
        node.new_token(["run"], expires=3600)
        node.new_token(["run"], expires=30 * 86400)
        found = read(node)
        assert (found[key("remoterun_tokens")], found[key("remoterun_tokens_expiring")]) == (3, 0)
        tokens = node.data / "tokens.json"
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 25 * 86400))
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5 * 86400))
        text = tokens.read_text()
        entry = f'{{"name": "old", "sha256": "{"0" * 64}", "scopes": ["run"], "created": "{created}", '
        tokens.write_text(text.rstrip().removesuffix("]") + f', {entry} "expires": "{expires}"}}]')
        found = read(node)
        assert (found[key("remoterun_tokens")], found[key("remoterun_tokens_expiring")]) == (4, 1)


def test_removed_jobs_are_counted(scripts: Path) -> None:
    with running_node(scripts, retention={"jobs": 1}) as node:
        with node.connect() as client:
            for _ in range(3):
                client.submit("hello").wait()
        wait_until(lambda: read(node)[key("remoterun_jobs_removed_total")] == 2)


@pytest.mark.parametrize("processes", [0, 1])
def test_behind_a_gateway_the_metrics_are_the_nodes(scripts: Path, tmp_path: Path, processes: int) -> None:
    with running_node(scripts, name="behind", http={"processes": processes}) as node:
        with node.connect() as client:
            client.run("hello")
        with running_gateway(node.urls["unix"], tmp_path) as url:
            for front in (url, node.urls["http"]):
                found = read(node, front)
                assert found[key("remoterun_build_info", node="behind", version="0.1.0", python=python())] == 1
                assert found[key("remoterun_jobs_ended_total", script="hello", state="succeeded")] == 1


def test_a_certificates_end_is_told(scripts: Path, tmp_path: Path) -> None:
    files = Authority(tmp_path, "authority").issue_for_node()
    with running_node(scripts, rpc={"cert": files.cert, "key": files.key}) as node:
        found = read(node)
    expiry = x509.load_pem_x509_certificate(Path(files.cert).read_bytes()).not_valid_after_utc
    assert found[key("remoterun_certificate_expiry_timestamp_seconds", transport="rpc")] == expiry.timestamp()
