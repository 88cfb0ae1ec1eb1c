"""A node's life: it starts, says where it is, stops in order, and takes up what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remoterun.errors import Invalid, ServiceError, Unavailable
from remoterun.messages import Job, JobRequest, OutputEvent, StateEvent
from remoterun.service import Session
from remoterun.states import State
from remoterun.testing import running_node

GATE = """\
# /// script
# [tool.remoterun]
# concurrency = 0
# ///
import time
from pathlib import Path


def main(path: str, mark: str = "", n: int = 0) -> int:
    if mark:
        with open(mark, "a") as file:
            file.write(f"{n}\\n")
    print("waiting", flush=True)
    while not Path(path).exists():
        time.sleep(0.005)
    return n
"""

RETRIED = GATE.replace("# concurrency = 0", '# retries = 1\n# retry_on = ["lost"]\n# retry_delay = "0s"').replace(
    "return n", "from remoterun import script\n    return script.job().attempt"
)

SECRET = """\
from pydantic import SecretStr


def main(path: str, password: SecretStr) -> int:
    import time
    from pathlib import Path

    while not Path(path).exists():
        time.sleep(0.005)
    return len(password.get_secret_value())
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "gate.py").write_text(GATE)
    (folder / "retried.py").write_text(RETRIED)
    (folder / "secret.py").write_text(SECRET)
    (folder / "add.py").write_text("def main(a: int, b: int) -> int:\n    return a + b\n")
    return folder


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "gate"
    yield path
    path.touch()


def _call(script: str, **params: object) -> JobRequest:
    return JobRequest(script=script, params=params)


def _until_running(session: Session, job: Job) -> None:
    following = session.events(job.id)
    assert any(isinstance(event, OutputEvent) and b"waiting" in event.raw() for event in following)
    following.close()  # type: ignore[attr-defined]


def test_the_ready_file_says_where_the_node_is(scripts: Path, tmp_path: Path) -> None:
    with running_node(scripts, name="north") as node:
        ready = json.loads(node.ready_file.read_bytes())
        assert ready["pid"] == node.pid
        assert ready["node"] == "north"
        assert node.ready_file.stat().st_mode & 0o077 == 0
        assert set(node.urls) >= {"tcp", "unix", "http"}
        for scheme in node.urls:
            with node.connect(scheme, node.token) as client:
                assert client.run("add", a=1, b=2) == 3
                assert client.info().node == "north"
        assert node.stop() == 0
        assert not node.ready_file.exists()


def test_a_node_without_a_transport_says_so(scripts: Path) -> None:
    with running_node(scripts, http={"enabled": False}) as node:
        assert "http" not in node.urls
        with pytest.raises(Invalid, match="no http://; it has rpyc, tcp, unix, zmq"):
            node.connect("http")


def test_the_data_folder_is_private(scripts: Path) -> None:
    with running_node(scripts) as node:
        assert node.data.stat().st_mode & 0o777 == 0o700
        assert (node.data / "token").stat().st_mode & 0o777 == 0o600
        assert (node.data / "tokens.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_an_idle_node(scripts: Path, number: signal.Signals) -> None:
    with running_node(scripts) as node:
        os.kill(node.pid, number)
        assert node.process is not None
        assert node.process.wait(10) == 0
        assert "Traceback" not in node.log()


def test_an_idle_node_leaves_nothing_behind(scripts: Path) -> None:
    with running_node(scripts) as node:
        with node.connect() as client:
            client.run("add", a=1, b=2)
        children = _tree(node.pid)
        assert children
        assert node.stop() == 0
        assert [pid for pid in children if _is_alive(pid)] == []
        assert not (node.data / "remoterun.sock").exists()
        assert not list((node.data / "run").glob("*"))


def test_stopping_lets_running_jobs_end(scripts: Path, gate: Path) -> None:
    with running_node(scripts, grace="30s") as node, node.connect() as client:
        running = client.session.submit(_call("gate", path=str(gate), n=7))
        _until_running(client.session, running)
        node.terminate()
        gate.touch()
        assert node.process is not None
        assert node.process.wait(20) == 0
        node.restart()
        with node.connect() as again:
            job = again.session.get_job(running.id)
            assert (job.state, job.result) == (State.SUCCEEDED, 7)


def test_stopping_ends_what_runs_beyond_the_grace(scripts: Path, gate: Path) -> None:
    with running_node(scripts, grace="200ms", workers=1) as node:
        with node.connect() as client:
            running = client.session.submit(_call("gate", path=str(gate)))
            _until_running(client.session, running)
            queued = client.session.submit(_call("gate", path=str(gate), n=3))
        began = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - began < 10, "far more than the grace"
        gate.touch()
        node.restart()
        with node.connect() as client:
            lost = client.session.get_job(running.id)
            assert lost.state is State.LOST
            assert lost.error is not None
            assert lost.error.type == "NodeStopped"
            resumed = client.session.wait(queued.id, 20)
            assert (resumed.state, resumed.result, resumed.attempt) == (State.SUCCEEDED, 3, 1)


@pytest.mark.parametrize("scheme", ["tcp", "unix", "http", "rpyc"])
def test_no_accepted_job_is_lost_by_stopping_under_load(scripts: Path, tmp_path: Path, scheme: str) -> None:
    accepted: list[str] = []
    with running_node(scripts, workers=2, grace="10s") as node:

        def submit_many() -> None:
            with node.connect(scheme, node.token) as client:
                for n in range(10_000):
                    accepted.append(client.session.submit(_call("add", a=n, b=1)).id)  # noqa: PERF401 - kept as it grows

        with ThreadPoolExecutor(3) as threads:
            callers = [threads.submit(submit_many) for _ in range(3)]
            while len(accepted) < 60:
                time.sleep(0.005)
            assert node.stop() == 0
            for caller in callers:
                assert isinstance(caller.exception(20), ServiceError)
        node.restart()
        with node.connect() as client:
            ends = [client.session.wait(job_id, 30) for job_id in accepted]
        assert {end.state for end in ends} == {State.SUCCEEDED}
        assert {end.attempt for end in ends} == {1}


def test_a_call_of_run_is_told_when_the_node_dies(scripts: Path, gate: Path) -> None:
    with running_node(scripts, workers=4) as node, ThreadPoolExecutor(4) as threads:
        calls = []
        for scheme in ("tcp", "unix", "http", "rpyc"):
            client = node.connect(scheme, node.token)
            calls.append(threads.submit(client.session.run, _call("gate", path=str(gate))))
        with node.connect() as client:
            while client.info().load.running < 4:
                time.sleep(0.005)
        node.kill()
        for call in calls:
            assert isinstance(call.exception(20), Unavailable)


def test_after_a_kill_queued_jobs_run_and_running_ones_are_lost(scripts: Path, tmp_path: Path, gate: Path) -> None:
    mark = tmp_path / "started"
    with running_node(scripts, workers=1) as node:
        with node.connect() as client:
            running = client.session.submit(_call("gate", path=str(gate), mark=str(mark), n=1))
            _until_running(client.session, running)
            queued = [client.session.submit(_call("gate", path=str(gate), mark=str(mark), n=n)) for n in (2, 3)]
        node.kill()
        gate.touch()
        node.restart()
        with node.connect() as client:
            lost = client.session.wait(running.id, 20)
            assert (lost.state, lost.attempt) == (State.LOST, 1)
            assert lost.error is not None
            assert lost.error.type == "NodeDied"
            for n, job in zip((2, 3), queued, strict=True):
                ended = client.session.wait(job.id, 20)
                assert (ended.state, ended.result, ended.attempt) == (State.SUCCEEDED, n, 1)
            for job in (running, *queued):
                _assert_complete_log(client.session, job.id)
        assert sorted(mark.read_text().split()) == ["1", "2", "3"]


def test_after_a_kill_a_job_is_tried_again_if_its_script_says_so(scripts: Path, tmp_path: Path, gate: Path) -> None:
    mark = tmp_path / "started"
    with running_node(scripts) as node:
        with node.connect() as client:
            job = client.session.submit(_call("retried", path=str(gate), mark=str(mark), n=1))
            _until_running(client.session, job)
        node.kill()
        gate.touch()
        node.restart()
        with node.connect() as client:
            ended = client.session.wait(job.id, 20)
            assert (ended.state, ended.attempt, ended.result) == (State.SUCCEEDED, 2, 2)
            _assert_complete_log(client.session, job.id)
        assert mark.read_text().split() == ["1", "1"]


def test_retries_after_kills_come_to_an_end(scripts: Path, gate: Path) -> None:
    with running_node(scripts) as node:
        with node.connect() as client:
            job = client.session.submit(_call("retried", path=str(gate)))
            _until_running(client.session, job)
        node.kill()
        node.restart()
        with node.connect() as client:
            following = client.session.events(job.id)
            assert any(
                isinstance(event, StateEvent) and event.attempt == 2 and event.state is State.RUNNING
                for event in following
            )
            following.close()  # type: ignore[attr-defined]
        node.kill()
        node.restart()
        with node.connect() as client:
            ended = client.session.wait(job.id, 20)
            assert (ended.state, ended.attempt) == (State.LOST, 2)
            _assert_complete_log(client.session, job.id)


def test_a_kill_leaves_no_process(scripts: Path, gate: Path) -> None:
    with running_node(scripts) as node:
        with node.connect() as client:
            job = client.session.submit(_call("gate", path=str(gate)))
            _until_running(client.session, job)
        tree = _tree(node.pid)
        assert len(tree) >= 2
        node.kill()
        deadline = time.monotonic() + 10
        while any(_is_alive(pid) for pid in tree):
            assert time.monotonic() < deadline, "processes of a killed node live on"
            time.sleep(0.01)


def test_keys_and_history_outlive_the_node(scripts: Path) -> None:
    request = JobRequest(script="add", params={"a": 1, "b": 2}, key="once")
    with running_node(scripts) as node:
        with node.connect() as client:
            first = client.session.run(request)
        node.restart()
        with node.connect() as client:
            assert client.session.run(request) == first
            assert client.session.get_job(first.id) == first
        node.kill()
        node.restart()
        with node.connect() as client:
            assert client.session.submit(request) == first


def test_a_secret_waits_in_the_dark(scripts: Path, gate: Path) -> None:
    secret = "correct horse battery staple"
    with running_node(scripts, workers=1) as node:
        with node.connect() as client:
            blocker = client.session.submit(_call("gate", path=str(gate)))
            _until_running(client.session, blocker)
            job = client.session.submit(_call("secret", path=str(gate), password=secret))
            assert job.params is not None
            assert job.params["password"] == "**********"
        node.kill()
        assert _files_with(node.data, secret) == []
        gate.touch()
        node.restart()
        with node.connect() as client:
            ended = client.session.wait(job.id, 20)
            assert (ended.state, ended.result) == (State.SUCCEEDED, len(secret))
            assert ended.params is not None
            assert ended.params["password"] == "**********"
        node.stop()
        assert _files_with(node.data, secret) == []
        assert secret not in node.log()


def test_a_script_that_went_away_ends_its_waiting_jobs(scripts: Path, gate: Path) -> None:
    with running_node(scripts, workers=1) as node:
        with node.connect() as client:
            running = client.session.submit(_call("gate", path=str(gate)))
            _until_running(client.session, running)
            waiting = client.session.submit(_call("add", a=1, b=2))
        node.kill()
        (scripts / "add.py").unlink()
        node.restart()
        with node.connect() as client:
            ended = client.session.wait(waiting.id, 20)
            assert ended.has_ended
            assert (ended.state, ended.result) in {(State.SUCCEEDED, 3), (State.FAILED, None)}
            _assert_complete_log(client.session, waiting.id)


def test_a_second_signal_stops_at_once(scripts: Path, gate: Path) -> None:
    with running_node(scripts, grace="60s") as node:
        with node.connect() as client:
            job = client.session.submit(_call("gate", path=str(gate)))
            _until_running(client.session, job)
        tree = _tree(node.pid)
        node.terminate()
        while "stopping" not in node.log():
            time.sleep(0.005)
        node.terminate()
        assert node.process is not None
        assert node.process.wait(10) == 130
        deadline = time.monotonic() + 10
        while any(_is_alive(pid) for pid in tree):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_node_that_does_not_start_shows_its_log(scripts: Path) -> None:
    from remoterun.testing import NodeDidNotStart

    with pytest.raises(NodeDidNotStart, match="log_level") as failed, running_node(scripts, log_level="loud"):
        raise AssertionError("it started")
    assert failed.value.exit_code not in (0, None)


def test_serve_is_the_console_command(scripts: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = Path(sys.executable).with_name("remoterun")
    process = subprocess.Popen(
        [command, "serve", scripts, "--data", tmp_path / "data", "--ready-file", ready],
        env={**os.environ, "REMOTERUN_SOCKET_LISTEN": "127.0.0.1:0", "REMOTERUN_HTTP_LISTEN": "127.0.0.1:0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        while not ready.exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        told = json.loads(ready.read_bytes())
        assert told["pid"] == process.pid
    finally:
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert process.returncode == 0
    for address in (*told["socket"], *told["http"], *told["rpc"]):
        assert address in output
    assert (tmp_path / "data" / "token").read_text().strip() not in output


def _assert_complete_log(session: Session, job_id: str) -> None:
    events = list(session.events(job_id))
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    finals = [event for event in events if isinstance(event, StateEvent) and event.final]
    assert finals == [events[-1]]


def _tree(pid: int) -> list[int]:
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += [int(child), *_tree(int(child))]
    return found


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
