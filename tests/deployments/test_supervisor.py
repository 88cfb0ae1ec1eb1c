"""What supervisor itself must do: keep a node, and let a process that dies cost as little as can be."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.errors import Unavailable
from remoterun.service import Peer
from remoterun.testing import RunningNode
from remoterun.transport import Target
from tests.deployments.callers import Caller
from tests.deployments.certificate import write_certificate
from tests.deployments.conftest import SCRIPTS, require
from tests.deployments.front import Place
from tests.deployments.fronts.supervisor_nginx import SupervisorNginx
from tests.deployments.programs import eventually
from tests.deployments.supervisor import Supervisor, write_settings

_NODE = "remoterun-node"


@pytest.fixture(scope="module")
def place(folder: Path) -> Place:
    require(SupervisorNginx)
    own = folder / "own"
    own.mkdir()
    (own / "data").mkdir(mode=0o700)
    return Place(own, f"unix://{own}/data/remoterun.sock", *write_certificate(own))


@pytest.fixture(scope="module")
def supervised(place: Place) -> Iterator[Supervisor]:
    """Give a supervisor that keeps a node."""
    with write_settings(place, "remoterun.toml", {}).open("a") as settings:
        settings.write('\n[socket]\nlisten = ["127.0.0.1:0"]\n')  # others have the usual ports here
        settings.write("\n[rpc]\nenabled = false\n\n[zeromq]\nenabled = false\n")
    replacements = {
        "/srv/remoterun/scripts": str(SCRIPTS),
        "/etc/remoterun/remoterun.toml": str(place.folder / "remoterun.toml"),
    }
    supervisor = Supervisor(place, {"node.conf": replacements})
    running = supervisor.start()
    try:
        yield supervisor
    finally:
        running.stop()


def test_a_node_that_dies_is_started_again(supervised: Supervisor, place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    eventually(lambda: _answers(place), "the node answers")
    with _client(place) as client:
        running, waiting = (client.submit("one_at_once", gate=str(gate)).id for _ in range(2))
        eventually(lambda: client.job(running).state == "running", "the first one runs")
    _kill(supervised, _NODE)
    gate.touch()
    eventually(lambda: _answers(place), "there is another one")
    with _client(place) as client:
        assert client.job(waiting).wait().state == "succeeded"
        assert client.job(running).state == "lost"


def test_a_node_is_stopped_in_order(supervised: Supervisor, place: Place) -> None:
    eventually(lambda: _answers(place), "the node answers")
    supervised.control("stop", _NODE)
    log = (place.folder / f"{_NODE}.log").read_text()
    assert log.rstrip().endswith("remoterun: stopping")
    assert not (place.data / "remoterun.sock").exists()
    supervised.control("start", _NODE)


def test_what_a_killed_process_was_asked_is_read_elsewhere_and_starts_no_script_twice(
    node: RunningNode, folder: Path
) -> None:
    require(SupervisorNginx)
    own = folder / "killed"
    own.mkdir()
    front = SupervisorNginx(Place(own, node.urls["unix"], *write_certificate(own)))
    stop, got, posts = threading.Event(), [0], [0]
    bad: list[str] = []

    def read() -> None:
        with Caller(front, node.token) as caller:
            while not stop.is_set():
                got[0] += 1
                with _cut_off():
                    answer = caller.http.get("/scripts")
                    bad.extend([] if answer.status_code == 200 else [answer.text])

    def write() -> None:
        with Caller(front, node.token) as caller:
            while not stop.is_set():
                posts[0] += 1
                with _cut_off():
                    answer = caller.http.post("/run/hello", json={"name": f"post-{posts[0]}"})
                    known = answer.status_code == 200 or _says_unavailable(answer)
                    bad.extend([] if known else [answer.text])

    try:
        front.start()
        threads = [threading.Thread(target=each) for each in (read, read, write)]
        for thread in threads:
            thread.start()
        for name in front.names:
            _await_more(got)
            _kill(front.supervisor, name)
        _await_more(got)
        stop.set()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        front.stop()
    assert bad == []
    with node.connect() as client:
        names = [job.params["name"] for job in client.jobs(script="hello") if job.params]
    assert len(names) == len(set(names))


def _cut_off() -> contextlib.suppress:
    """Let pass that an answer which had begun was cut off: its head is sent before its body."""
    return contextlib.suppress(httpx2.RemoteProtocolError)


def _says_unavailable(answer: httpx2.Response) -> bool:
    return (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def _kill(supervisor: Supervisor, name: str) -> None:
    old = supervisor.pid(name)
    os.kill(old, signal.SIGKILL)
    eventually(lambda: supervisor.pid(name) not in (0, old), "it is started again")


def _await_more(count: list[int]) -> None:
    before = count[0]
    eventually(lambda: count[0] > before + 50, "calls are answered")


def _client(place: Place) -> Client:
    return Client(*open_session(Target(place.node), Peer(os.getuid(), os.getgid(), os.getpid())))


def _answers(place: Place) -> bool:
    try:
        with _client(place):
            return True
    except Unavailable:
        return False
