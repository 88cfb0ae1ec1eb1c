"""What a node, its HTTP processes and a gateway log: one format, fields of jobs and of refused calls, no values."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from remoterun.errors import ServiceError
from remoterun.messages import JobRequest
from remoterun.testing import NodeDidNotStart, RunningNode, running_node

TRACE = "0af7651916cd43dd8448eb211c80319c"
CANARY = "canary-8131"
SCRIPTS = {
    "echo": "def main(word: str) -> str:\n    print(word)\n    return word\n",
    "fails": "def main(word: str):\n    raise ValueError(word)\n",
    "exits": "import sys\nprint(sys.argv)\nsys.exit(3)\n",
}
ENDED = ("job", "script", "principal", "transport", "attempt", "state")


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name, text in SCRIPTS.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def use(node: RunningNode) -> None:
    """Make calls that succeed, fail and are refused, each with the canary in what is passed in."""
    trace = f"00-{TRACE}-b7ad6b7169203331-01"
    with node.connect("tcp") as client:
        for request in (
            JobRequest(script="echo", params={"word": CANARY}, trace=trace),
            JobRequest(script="fails", params={"word": CANARY}, trace=trace),
            JobRequest(script="exits", args=(CANARY,)),
            JobRequest(script="echo", params={"word": 1, CANARY: CANARY}),
            JobRequest(script="no\n2026-01-01T00:00:00.000Z INFO forged: line"),
        ):
            try:
                client.session.run(request)
            except ServiceError:
                assert request.script not in ("fails", "exits")


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def of_jobs(log: str) -> Iterator[dict[str, Any]]:
    return (record for record in records(log) if record["logger"] == "remoterun.jobs")


def test_every_line_of_json_is_a_record_with_the_jobs_fields(scripts: Path) -> None:
    with running_node(scripts, name="n1", log_format="json", log_jobs="all") as node:
        use(node)
        assert node.stop() == 0
        log = node.log()
    assert CANARY not in log
    assert {record["node"] for record in records(log)} == {"n1"}
    succeeded, failed, exited, invalid, unknown = of_jobs(log)
    assert [succeeded[name] for name in ENDED[1:]] == ["echo", "first", "socket", 1, "succeeded"]
    assert succeeded["trace"] == failed["trace"] == TRACE
    assert succeeded["seconds"] > 0
    assert succeeded["queue_seconds"] >= 0
    assert (failed["state"], failed["error"], failed["exit_code"]) == ("failed", "ValueError", 1)
    assert (exited["script"], exited["exit_code"]) == ("exits", 3)
    assert "trace" not in exited
    assert (invalid["code"], invalid["operation"], invalid["principal"]) == ("invalid", "run", "first")
    assert invalid["peer"].startswith("127.0.0.1")
    assert unknown["code"] == "not_found"
    assert "\n" in unknown["script"], "JSON holds the name as it was sent"


def test_lines_of_text_cannot_be_forged(scripts: Path) -> None:
    with running_node(scripts) as node:
        use(node)
        assert node.stop() == 0
        log = node.log()
    assert CANARY not in log
    lines = [line for line in log.splitlines() if "remoterun.jobs: " in line]
    assert [re.search(r"(state|code)=(\w+)", line)[2] for line in lines] == ["failed", "failed", "invalid", "not_found"]  # type: ignore[index]
    assert not any(line.startswith("2026-01-01") for line in log.splitlines())


@pytest.mark.parametrize(("which", "states"), [("none", []), ("failed", ["failed", "failed", None, None])])
def test_a_setting_says_which_jobs_are_logged(scripts: Path, which: str, states: list[str | None]) -> None:
    with running_node(scripts, log_format="json", log_jobs=which) as node:
        use(node)
        assert node.stop() == 0
        assert [record.get("state") for record in of_jobs(node.log())] == states


def test_a_token_that_is_none_is_logged_without_itself(scripts: Path) -> None:
    with running_node(scripts, log_format="json") as node:
        token = node.token[:-1] + ("A" if node.token[-1] != "A" else "B")
        with pytest.raises(ServiceError):
            node.connect("tcp", token)
        assert node.stop() == 0
        (refused,) = of_jobs(node.log())
        assert (refused["code"], refused["operation"], refused["transport"]) == (
            "unauthenticated", "authenticate", "socket")  # fmt: skip
        assert token[3:40] not in node.log()


def test_http_processes_log_in_the_nodes_format(scripts: Path) -> None:
    with running_node(scripts, name="n1", log_format="json", http={"processes": 2}) as node:
        children = [int(child) for child in Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()]
        front = next(pid for pid in children if b"remoterun_http.process" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(front, signal.SIGTERM)
        wait_for(node, f"HTTP process {front} ended")
        assert httpx2.get(f"{node.urls['http']}/livez").status_code == 200
        assert node.stop() == 0
        log = node.log()
    assert [record["message"] for record in records(log)].count("remoterun: stopping") >= 2, "one is the process's own"
    assert {record["node"] for record in records(log)} == {"n1"}


def test_a_gateway_logs_in_the_same_format(scripts: Path, tmp_path: Path) -> None:
    ready, log = tmp_path / "ready", tmp_path / "gateway.log"
    with running_node(scripts) as node, log.open("wb") as output:
        command = [sys.executable, "-m", "remoterun", "gateway", "--to", node.urls["unix"], "--listen", "127.0.0.1:0"]
        env = {**os.environ, "REMOTERUN_LOG_FORMAT": "json", "REMOTERUN_NAME": "front"}
        gateway = subprocess.Popen(
            [*command, "--ready-file", str(ready)], cwd=tmp_path, env=env, stdout=output, stderr=output
        )
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert gateway.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        gateway.terminate()
        assert gateway.wait(30) == 0
    said = records(log.read_text())
    assert [record["message"].partition(":")[0] for record in said] == ["remoterun 0.1.0", "remoterun"]
    assert {record["node"] for record in said} == {"front"}


def test_the_sign_in_code_is_for_people_not_for_what_collects_logs(scripts: Path) -> None:
    for form, is_shown in (("text", True), ("json", False)):
        with running_node(scripts, log_format=form) as node:
            assert ("/login?code=" in node.log()) is is_shown


def test_why_a_node_does_not_start_is_a_record_too(scripts: Path, tmp_path: Path) -> None:
    with (
        running_node(scripts, data=tmp_path / "data"),
        pytest.raises(NodeDidNotStart) as failed,
        running_node(scripts, data=tmp_path / "data", log_format="json"),
    ):
        pass
    (record,) = records(failed.value.log)
    assert record["level"] == "error"
    assert "uses the data folder" in record["message"]


def wait_for(node: RunningNode, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in node.log():
        assert time.monotonic() < deadline, node.log()
        time.sleep(0.02)
