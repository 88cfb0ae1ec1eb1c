"""A node behind gateways: a process of its own, several of the node's, and applications of other servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx2
import pytest

from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.errors import Unauthenticated, Unavailable
from remoterun.messages import OutputEvent
from remoterun.service import Token
from remoterun.testing import NodeDidNotStart, RunningNode, running_node
from remoterun.transport import Target
from tests.gateways import running_gateway
from tests.processes import lives

SCRIPT = """
# /// script
# [tool.remoterun]
# isolation = "warm"
# ///
import time
from pathlib import Path
from remoterun import script


def main(name: str = "", gate: str = "") -> dict[str, str]:
    print("waiting", flush=True)
    script.artifact("big.bin").write_bytes(bytes(range(256)) * 8192)
    while gate and not Path(gate).exists():
        time.sleep(0.005)
    return {"hello": name}
"""
_PATIENCE = 30.0


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "greet.py").write_text(SCRIPT)
    return folder


@pytest.fixture
def node(scripts: Path) -> Iterator[RunningNode]:
    with running_node(scripts) as running:
        yield running


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def client(url: str, token: str) -> Client:
    return Client(*open_session(Target(url), Token(token)))


def is_ready(url: str) -> bool:
    return httpx2.get(f"{url}/readyz").status_code == 200


@pytest.mark.parametrize("scheme", ["unix", "tcp", "http"])
def test_a_gateway_leads_to_a_node_over_any_wire(node: RunningNode, tmp_path: Path, scheme: str) -> None:
    gate = tmp_path / "gate"
    with (
        running_gateway(node.urls[scheme], tmp_path, node.token if scheme == "tcp" else "") as url,
        client(url, node.token) as caller,
    ):
        assert caller.run("greet", name="Ada") == {"hello": "Ada"}
        handle = caller.submit("greet", gate=str(gate))
        seen = next(event for event in handle.events() if isinstance(event, OutputEvent))
        assert seen.raw().startswith(b"waiting")
        gate.touch()
        assert handle.result() == {"hello": ""}
        assert handle.artifact("big.bin").read() == bytes(range(256)) * 8192
        eventually(lambda: is_ready(url), "it is ready")


def test_a_gateway_of_the_own_user_says_for_whom_it_calls(node: RunningNode, tmp_path: Path) -> None:
    with running_gateway(node.urls["unix"], tmp_path) as url, client(url, node.token) as caller:
        job = caller.submit("greet").wait()
        assert (job.transport, job.principal, job.peer) == ("http", "first", "127.0.0.1")


def test_elsewhere_the_records_name_the_gateway(node: RunningNode, tmp_path: Path) -> None:
    with running_gateway(node.urls["tcp"], tmp_path, node.token) as url, client(url, node.token) as caller:
        job = caller.submit("greet").wait()
        assert job.transport == "socket"
        assert job.peer.startswith("127.0.0.1:")


def test_a_refused_call_is_recorded_with_its_address(node: RunningNode, tmp_path: Path) -> None:
    with running_gateway(node.urls["unix"], tmp_path) as url, client(url, node.token) as caller:
        with pytest.raises(Unauthenticated):
            client(url, "rr_wrong")
        refused = httpx2.get(f"{url}/refusals", headers={"Authorization": f"Bearer {node.token}"}).json()["refusals"]
        assert [each["peer"] for each in refused] == ["127.0.0.1"]
        assert caller.run("greet", name="Ada") == {"hello": "Ada"}


def test_a_gateway_with_processes_leads_to_its_node_and_reloads(
    node: RunningNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOTERUN_HTTP_PROCESSES", "2")
    monkeypatch.setenv("REMOTERUN_DATA", str(tmp_path / "elsewhere"))
    with running_gateway(node.urls["unix"], tmp_path) as url, client(url, node.token) as caller:
        pid = json.loads((tmp_path / "gateway.json").read_bytes())["pid"]
        assert caller.run("greet", name="Ada") == {"hello": "Ada"}
        first = children(pid)
        assert len(first) == 2
        os.kill(pid, signal.SIGHUP)
        eventually(lambda: not {*children(pid)} & {*first} and len(children(pid)) == 2, "both are replaced")
        assert caller.run("greet", name="Ada") == {"hello": "Ada"}


def test_who_is_not_trusted_cannot_name_an_origin(node: RunningNode) -> None:
    host, port = node.urls["tcp"].removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(f"AUTH {node.token}\r\nCLIENT ORIGIN http 10.0.0.1\r\nQUIT\r\n".encode())
        answer = b"".join(iter(lambda: wire.recv(4096), b""))
    assert b"-ERR only a process of the node's own user" in answer


def test_the_callers_own_token_decides(node: RunningNode, tmp_path: Path) -> None:
    with running_gateway(node.urls["unix"], tmp_path) as url:
        with pytest.raises(Unauthenticated):
            client(url, "rr_wrong")
        assert httpx2.get(f"{url}/info").status_code == 401


def test_a_gateway_outlives_its_node(node: RunningNode, tmp_path: Path) -> None:
    with running_gateway(node.urls["unix"], tmp_path) as url, client(url, node.token) as caller:
        eventually(lambda: is_ready(url), "it is ready")
        node.stop()
        eventually(lambda: not is_ready(url), "it says that it is not ready")
        with pytest.raises(Unavailable):
            caller.run("greet")
        node.start()
        eventually(lambda: is_ready(url), "it is ready again")
        assert caller.run("greet", name="Ada") == {"hello": "Ada"}


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"remoterun_http.process" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return sorted(found)


def test_processes_in_front_of_a_node(scripts: Path) -> None:
    with running_node(scripts, http={"processes": 2}) as node:
        assert len(children(node.pid)) == 2
        with node.connect("http") as caller:
            eventually(lambda: is_ready(node.urls["http"]), "they are ready")
            assert caller.run("greet", name="Ada") == {"hello": "Ada"}
            assert caller.submit("greet").wait().transport == "http"
        pids = children(node.pid)
        node.stop()
        eventually(lambda: not any(map(lives, pids)), "they end with the node")


def test_a_process_that_dies_is_replaced(scripts: Path) -> None:
    with running_node(scripts, http={"processes": 2}) as node:
        first = children(node.pid)
        os.kill(first[0], signal.SIGKILL)
        eventually(lambda: len(children(node.pid)) == 2 and children(node.pid) != first, "there are two again")
        eventually(lambda: is_ready(node.urls["http"]), "they are ready")


def test_processes_end_when_their_node_is_killed(scripts: Path) -> None:
    with running_node(scripts, http={"processes": 2}) as node:
        pids = children(node.pid)
        node.kill()
        eventually(lambda: not any(map(lives, pids)), "they end")


def test_a_process_that_cannot_start_keeps_the_node_from_starting(scripts: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cert.pem"
    broken.write_text("no certificate")
    settings = {"processes": 2, "cert": str(broken)}
    with (
        pytest.raises(NodeDidNotStart, match=r"cert\.pem cannot be used") as caught,
        running_node(scripts, http=settings),
    ):
        pass
    assert caught.value.exit_code == 125
    assert "exit code 125" in str(caught.value)


def test_a_reload_under_load_fails_no_request(scripts: Path) -> None:
    with running_node(scripts, http={"processes": 2}) as node:
        url, first = node.urls["http"], children(node.pid)
        eventually(lambda: is_ready(url), "they are ready")
        stop = threading.Event()
        answers: list[int] = []
        broken: list[Exception] = []

        def call() -> None:
            headers = {"Authorization": f"Bearer {node.token}"}
            with httpx2.Client(base_url=url, headers=headers, timeout=_PATIENCE) as http:
                while not stop.is_set():
                    try:
                        answers.append(http.post("/run/greet", json={"name": "Ada"}).status_code)
                    except httpx2.HTTPError as error:
                        broken.append(error)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        os.kill(node.pid, signal.SIGHUP)
        eventually(lambda: not {*children(node.pid)} & {*first} and len(children(node.pid)) == 2, "both are replaced")
        stop.set()
        for caller in callers:
            caller.join()
        assert broken == []
        assert {*answers} == {200}


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("fd:77", "was not handed over"),
        ("fd:x", "was not handed over"),
        ("0.0.0.0:0", "is reached from other machines"),
    ],
)
def test_sockets_that_are_refused(scripts: Path, listen: str, says: str) -> None:
    with pytest.raises(NodeDidNotStart, match=says), running_node(scripts, http={"listen": [listen]}):
        pass


@pytest.fixture
def environment(node: RunningNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REMOTERUN_URL", node.urls["unix"])


@pytest.mark.usefixtures("environment")
async def test_the_asgi_application_under_another_server(node: RunningNode) -> None:
    import uvicorn

    from remoterun_http.asgi import Lazy

    server = uvicorn.Server(uvicorn.Config(Lazy(), port=0, log_config=None, lifespan="on"))
    serving = asyncio.ensure_future(server.serve())
    await asyncio.to_thread(eventually, lambda: server.started, "it started")
    port = server.servers[0].sockets[0].getsockname()[1]
    answer = await asyncio.to_thread(_post, f"http://127.0.0.1:{port}", node.token)
    assert answer == {"hello": "Ada"}
    server.should_exit = True
    await serving


async def test_an_asgi_application_whose_node_is_not_there_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remoterun_http.asgi import Lazy

    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        monkeypatch.setenv("REMOTERUN_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(Lazy()), base_url="http://localhost") as http:
        answer = await http.get("/info")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


@pytest.mark.usefixtures("environment")
def test_the_wsgi_application_under_another_server(node: RunningNode) -> None:
    from remoterun_http.wsgi import Lazy

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            return

    with (
        contextlib.closing(Lazy()) as application,
        make_server("127.0.0.1", 0, application, handler_class=Quiet) as server,
    ):
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            assert _post(f"http://127.0.0.1:{server.server_port}", node.token) == {"hello": "Ada"}
        finally:
            server.shutdown()
            serving.join()


def _post(url: str, token: str) -> Any:
    answer = httpx2.post(
        f"{url}/run/greet", json={"name": "Ada"}, headers={"Authorization": f"Bearer {token}"}, timeout=_PATIENCE
    )
    return answer.json()
