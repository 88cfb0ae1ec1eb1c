"""Sockets that a supervisor hands over, found by their names: a real node on sockets of this test's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.service import Token
from remoterun.testing import running_node
from remoterun.transport import Target

_PATIENCE = 30.0


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "hello.py").write_text("print('hello')")
    return folder


def handed(sockets: Sequence[tuple[str, socket.socket]], command: Sequence[str]) -> list[str]:
    """Give a command line that runs another one as systemd does: its sockets from descriptor 3 on, with names."""
    fds = [bound.fileno() for _, bound in sockets]
    names = ":".join(name for name, _ in sockets)
    code = (
        "import os, sys\n"
        f"high = [os.dup2(fd, 100 + at) for at, fd in enumerate({fds})]\n"
        "[os.dup2(fd, 3 + at) for at, fd in enumerate(high)]\n"
        f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='{len(fds)}', LISTEN_FDNAMES='{names}')\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    return [sys.executable, "-c", code, *command]


@contextlib.contextmanager
def serving(
    sockets: Sequence[tuple[str, socket.socket]], folder: Path, scripts: Path, config: str
) -> Iterator[dict[str, list[str]]]:
    """Run a node on sockets that are handed over; give what its ready file says."""
    (folder / "remoterun.toml").write_text(config)
    ready, log = folder / "ready.json", folder / "node.log"
    command = [sys.executable, "-m", "remoterun", "serve", str(scripts), "--ready-file", str(ready)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            handed(sockets, [*command, "--data", str(folder / "data")]),
            pass_fds=[bound.fileno() for _, bound in sockets],
            cwd=folder,
            stdout=out,
            stderr=out,
        )
    try:
        deadline = time.monotonic() + _PATIENCE
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield json.loads(ready.read_bytes())
    finally:
        process.terminate()
        assert process.wait(_PATIENCE) == 0, log.read_text()


@contextlib.contextmanager
def bound_sockets(folder: Path) -> Iterator[list[tuple[str, socket.socket]]]:
    """Give a TCP socket for HTTP, and a TCP and a Unix socket of one name, in an order that is not the settings'."""
    with socket.socket() as resp, socket.socket(socket.AF_UNIX) as unix, socket.socket() as http:
        for each in (resp, http):
            each.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "resp.sock"))
        for each in (resp, unix, http):
            each.listen()
        yield [("resp", resp), ("resp", unix), ("http", http)]


CONFIG = """
zeromq.enabled = false
[http]
listen = ["fd:http"]
[socket]
listen = ["fd:resp"]
[rpc]
listen = ["127.0.0.1:0"]
"""


def test_sockets_that_are_handed_over_are_found_by_name(scripts: Path, tmp_path: Path) -> None:
    with bound_sockets(tmp_path) as sockets, serving(sockets, tmp_path, scripts, CONFIG) as ready:
        (_, resp), _, (_, http) = sockets
        assert ready["http"] == [f"http://127.0.0.1:{http.getsockname()[1]}"]
        assert ready["socket"] == [f"tcp://127.0.0.1:{resp.getsockname()[1]}", f"unix://{tmp_path}/resp.sock"]
        assert ready["unix"] == [f"unix://{tmp_path}/data/remoterun.sock"]
        token = (tmp_path / "data" / "token").read_text().strip()
        for url in (*ready["http"], *ready["socket"], *ready["unix"]):
            with Client(*open_session(Target(url), Token(token))) as client:
                assert [script.name for script in client.scripts()] == ["hello"], url
    assert (tmp_path / "resp.sock").exists(), "a socket of the supervisor's is not ours to remove"


def test_who_calls_while_the_node_is_restarted_waits_and_is_answered(scripts: Path, tmp_path: Path) -> None:
    with bound_sockets(tmp_path) as sockets:
        with serving(sockets, tmp_path, scripts, CONFIG):
            pass
        (tmp_path / "ready.json").unlink(missing_ok=True)
        with socket.create_connection(sockets[0][1].getsockname()) as caller:
            caller.sendall(b"PING\r\n")
            caller.settimeout(_PATIENCE)
            with serving(sockets, tmp_path, scripts, CONFIG):
                assert caller.recv(100) != b""


def test_a_socket_that_nobody_listens_on_is_warned_of(scripts: Path, tmp_path: Path) -> None:
    config = CONFIG.replace('"fd:http"', '"127.0.0.1:0"')
    with bound_sockets(tmp_path) as sockets, serving(sockets, tmp_path, scripts, config):
        log = (tmp_path / "node.log").read_text()
        assert 'nothing listens on the socket http that was handed over; set listen = ["fd:http"]' in log
        assert "the socket resp" not in log


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('socket.listen = ["fd:http"]', r"\[socket\] listen: fd:http was not handed over; there are none"),
        ('socket.listen = ["fd:77"]', r"\[socket\] listen: fd:77 was not handed over"),
        ('rpc.listen = ["fd:rpc"]', r"\[rpc\] listen: fd:rpc was not handed over"),
    ],
)
def test_names_of_sockets_that_are_not_there(scripts: Path, tmp_path: Path, config: str, says: str) -> None:
    (tmp_path / "remoterun.toml").write_text(config)
    command = [sys.executable, "-m", "remoterun", "serve", str(scripts), "--data", str(tmp_path / "data")]
    settings = {"REMOTERUN_HTTP_LISTEN": "127.0.0.1:0", "REMOTERUN_ZEROMQ_ENABLED": "false"}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True, timeout=_PATIENCE
    )
    assert done.returncode == 125
    assert re.search(says, done.stderr), done.stderr


def test_a_gateway_takes_over_sockets_too(scripts: Path, tmp_path: Path) -> None:
    with running_node(scripts) as node, socket.create_server(("127.0.0.1", 0)) as http:
        ready = tmp_path / "ready.json"
        command = [sys.executable, "-m", "remoterun", "gateway", "--to", node.urls["unix"], "--listen", "fd:http"]
        process = subprocess.Popen(
            handed([("http", http)], [*command, "--ready-file", str(ready)]), pass_fds=[http.fileno()], cwd=tmp_path
        )
        try:
            deadline = time.monotonic() + _PATIENCE
            while not ready.exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            url = f"http://127.0.0.1:{http.getsockname()[1]}"
            with Client(*open_session(Target(url), Token(node.token))) as client:
                assert client.run("hello") == "hello\n"
        finally:
            process.terminate()
            assert process.wait(_PATIENCE) == 0
