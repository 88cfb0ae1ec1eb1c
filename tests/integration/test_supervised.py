"""What a supervisor is told of a node and a gateway, through a real socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from remoterun.testing import RunningNode, running_node

_PATIENCE = 30.0
_WATCHDOG = 400_000  # microseconds
SCRIPT = """
# /// script
# [tool.remoterun]
# env = ["NOTIFY_*", "WATCHDOG_*", "LISTEN_*", "SEEN"]
# ///
import os


def main() -> dict[str, str]:
    return dict(os.environ)
"""


class Listening:
    """A datagram socket as a supervisor has it, and what arrives there."""

    def __init__(self, address: str) -> None:
        self.said: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))

    def receive(self, patience: float) -> dict[str, str] | None:
        """Give the next message, or None where none comes."""
        if not select.select([self._socket], [], [], patience)[0]:
            return None
        message = self._socket.recv(4096).decode()
        self.said.append(dict(line.split("=", 1) for line in message.split("\n")))
        return self.said[-1]

    def until(self, name: str) -> dict[str, str]:
        """Wait for a message that says `NAME=1`."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            message = self.receive(1)
            if message is not None and message.get(name) == "1":
                return message
        raise AssertionError(f"no {name}=1 came; there came {self.said}")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def supervisor(request: pytest.FixtureRequest) -> Iterator[tuple[Listening, str]]:
    with tempfile.TemporaryDirectory(prefix="rr-") as folder:
        address = f"{folder}/notify" if request.param == "path" else f"@remoterun-test-{os.getpid()}-{time.time_ns()}"
        listening = Listening(address)
        yield listening, address
        listening.close()


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "environment.py").write_text(SCRIPT)
    return folder


def test_a_supervisor_hears_of_start_reload_and_stop(supervisor: tuple[Listening, str], scripts: Path) -> None:
    listening, address = supervisor
    with running_node(scripts, env={"NOTIFY_SOCKET": address}, http={"processes": 1}) as node:
        ready = listening.until("READY")
        assert ready["STATUS"].startswith("remoterun ")
        assert "1 script" in ready["STATUS"]
        assert len(listening.said) == 1
        before = time.monotonic_ns() // 1000
        os.kill(node.pid, signal.SIGHUP)
        reloading = listening.until("RELOADING")
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert listening.until("READY")["STATUS"] == ready["STATUS"]
        node.terminate()
        listening.until("STOPPING")
        assert node.process is not None
        assert node.process.wait(_PATIENCE) == 0


def test_ready_is_said_once_it_answers(scripts: Path, tmp_path: Path) -> None:
    with contextlib.closing(Listening(str(tmp_path / "notify"))) as listening:
        ready_file = tmp_path / "ready.json"
        command = [sys.executable, "-m", "remoterun", "serve", str(scripts), "--data", str(tmp_path / "data")]
        settings = {f"REMOTERUN_{name}_LISTEN": "127.0.0.1:0" for name in ("HTTP", "SOCKET", "RPC")}
        env = {**os.environ, **settings, "REMOTERUN_ZEROMQ_ENABLED": "false", "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with subprocess.Popen([*command, "--ready-file", str(ready_file)], env=env) as process:
            listening.until("READY")
            try:
                url = json.loads(ready_file.read_bytes())["http"][0]  # no waiting: it must answer now
                assert httpx2.get(f"{url}/readyz").status_code == 200
            finally:
                process.terminate()
            listening.until("STOPPING")
            assert process.wait(_PATIENCE) == 0


def test_one_that_cannot_start_is_never_ready(scripts: Path, tmp_path: Path) -> None:
    with contextlib.closing(Listening(str(tmp_path / "notify"))) as listening, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "remoterun", "serve", str(scripts), "--data", str(tmp_path / "data")]
        env = {
            **os.environ,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "REMOTERUN_HTTP_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}",
        }
        assert subprocess.run(command, env=env, timeout=_PATIENCE, stderr=subprocess.PIPE).returncode == 125
        assert listening.receive(0) is None


def test_a_gateway_tells_too(supervisor: tuple[Listening, str], scripts: Path, tmp_path: Path) -> None:
    listening, address = supervisor
    with running_node(scripts) as node:
        command = [sys.executable, "-m", "remoterun", "gateway", "--to", node.urls["unix"], "--listen", "127.0.0.1:0"]
        with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "NOTIFY_SOCKET": address}) as process:
            assert "gateway to unix://" in listening.until("READY")["STATUS"]
            process.terminate()
            listening.until("STOPPING")
            assert process.wait(_PATIENCE) == 0


def test_signs_of_life_stop_when_the_loop_hangs(scripts: Path, tmp_path: Path) -> None:
    with contextlib.closing(Listening(str(tmp_path / "notify"))) as listening:
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(_WATCHDOG)}
        with running_node(scripts, env=env) as node:
            listening.until("READY")
            for _ in range(3):
                listening.until("WATCHDOG")
            os.kill(node.pid, signal.SIGSTOP)
            try:
                while listening.receive(0) is not None:  # what was sent before it stopped
                    pass
                assert listening.receive(5 * _WATCHDOG / 1e6) is None
            finally:
                os.kill(node.pid, signal.SIGCONT)
            listening.until("WATCHDOG")


def test_signs_of_life_are_for_the_process_that_is_watched(scripts: Path, tmp_path: Path) -> None:
    with contextlib.closing(Listening(str(tmp_path / "notify"))) as listening:
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(_WATCHDOG), "WATCHDOG_PID": "1"}
        with running_node(scripts, env=env):
            listening.until("READY")
            assert listening.receive(5 * _WATCHDOG / 1e6) is None


@pytest.mark.parametrize("processes", [0, 1])
def test_jobs_and_children_see_nothing_of_it(scripts: Path, tmp_path: Path, processes: int) -> None:
    env = {
        "NOTIFY_SOCKET": "@nobody-listens-here",
        "WATCHDOG_USEC": "60000000",
        "WATCHDOG_PID": "1",
        "LISTEN_PID": "1",
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "http",
        "SEEN": "yes",
    }
    with running_node(scripts, env=env, http={"processes": processes}) as node, node.connect() as client:
        seen = client.run("environment")
        assert seen["SEEN"] == "yes"
        assert not [name for name in seen if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_"))]
        for pid in _children(node):
            inherited = Path(f"/proc/{pid}/environ").read_bytes() if _is_readable(pid) else b""
            assert b"NOTIFY_SOCKET" not in inherited
            assert b"LISTEN_" not in inherited


def _children(node: RunningNode) -> list[int]:
    found = [int(pid) for pid in Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()]
    assert found, "a node has children"
    return found


def _is_readable(pid: int) -> bool:
    return os.access(f"/proc/{pid}/environ", os.R_OK)
