"""Where one subject is measured: a folder of its own, and processes that end with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from measure import MeasureError

HERE = Path(__file__).parent
SCRIPTS = HERE / "scripts"
FLOORS = HERE / "floors"

_ROOT = HERE.parent.parent
_START = 60.0  # seconds for a node with a million jobs to come up; for a broker, too
_STOP = 15.0
_LISTENING = ("SOCKET_LISTEN", "HTTP_LISTEN", "RPC_LISTEN", "ZEROMQ_LISTEN", "ZEROMQ_PULL")  # several nodes run at once


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True)
class RunningNode:
    """A node that answers.

    Parameters:
        http, socket, rpc, zeromq: the port of each transport; None where the node has none.
    """

    pid: int
    data: Path
    token: str
    http: int | None
    socket: int | None
    rpc: int | None
    zeromq: int | None


class Place:
    """A temporary folder, and what was started for one subject.

    Parameters:
        stack: ends all of it, last first.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="remoterun-bench-"))
        self._stack = stack
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._nodes = 0
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        """Start a process that is ended with this place."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment({}),
            pass_fds=pass_fds,
            cwd=_ROOT,  # the private brokers are modules there
        )
        self._stack.callback(_end, process)
        return process

    def serve(self, floor: str) -> int:
        """Start one of our floor servers on a port that is free, and give the port."""
        listening = socket.create_server(("127.0.0.1", 0))
        port = int(listening.getsockname()[1])
        with listening:
            self.start([sys.executable, str(FLOORS / floor), str(listening.fileno())], pass_fds=[listening.fileno()])
        wait_for_port(port)
        return port

    def floor(self, program: str, *arguments: str) -> None:
        """Start one of our floors that needs no listening socket of ours."""
        self.start([sys.executable, str(FLOORS / program), *arguments])

    def broker(self, name: str) -> str:
        """Start a private broker, `rabbitmq` or `activemq`, and give its address.

        Raises:
            MeasureError: it does not come up.
        """
        folder = self.folder / name
        folder.mkdir()
        self.start([sys.executable, "-m", f"tests.brokers.{name}", str(folder)])
        self.wait_for(folder / "url", _START)
        return (folder / "url").read_text()

    def redis(self) -> int:
        """Start a redis-server that keeps everything in memory, and give its port.

        Raises:
            MeasureError: it is not installed, or does not come up.
        """
        port = self.free_port()
        memory_only = ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.start([tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1", *memory_only])
        wait_for_port(port)
        return port

    def free_port(self) -> int:
        """Give a port that nobody listens on now."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            return int(listening.getsockname()[1])

    def defer(self, end: Callable[[], object]) -> None:
        """Do something when this place ends."""
        self._stack.callback(end)

    def keep(self, connection: Closable) -> None:
        """Close a connection when this place ends."""
        self._stack.callback(connection.close)

    def new_data(self) -> Path:
        """Name a data folder that does not exist."""
        self._nodes += 1
        return self.folder / f"node-{self._nodes}"

    def node(
        self,
        *,
        scripts: Path = SCRIPTS,
        data: Path | None = None,
        settings: Mapping[str, str] | None = None,
        configuration: str = "",
    ) -> RunningNode:
        """Start a node of its own.

        Parameters:
            data: of an earlier node, or None for a new one.
            settings: `REMOTERUN_*`, without the prefix.
            configuration: what its `remoterun.toml` holds.

        Raises:
            MeasureError: it does not come up.
        """
        data = data or self.new_data()
        ready, log = self.folder / f"{data.name}.ready", self.folder / f"{data.name}.log"
        file = self.folder / f"{data.name}.toml"
        file.write_text(configuration)
        listen = dict.fromkeys(_LISTENING, "127.0.0.1:0")
        given = {**listen, "GRACE": "0", **(settings or {})}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    remoterun(),
                    "serve",
                    str(scripts),
                    "--data",
                    str(data),
                    "--ready-file",
                    str(ready),
                    "--config",
                    str(file),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment({f"REMOTERUN_{name}": value for name, value in given.items()}),
                cwd=self.folder,
            )
        self._running[process.pid] = process
        self._stack.callback(_end, process)
        deadline = time.monotonic() + _START
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise MeasureError(f"the node did not come up: {_last_line(log.read_bytes())}")
            time.sleep(0.02)
        taken = json.loads(ready.read_text())
        token = (data / "token").read_text().strip()
        ports = (_port(taken, name) for name in ("http", "socket", "rpc", "zeromq"))
        return RunningNode(process.pid, data, token, *ports)

    def stop(self, node: RunningNode) -> None:
        """End a node now."""
        _end(self._running[node.pid])

    def wait_for(self, path: Path, seconds: float = 10.0) -> None:
        """Wait until a file is there.

        Raises:
            MeasureError: it is not by then.
        """
        deadline = time.monotonic() + seconds
        while not path.exists():
            if time.monotonic() > deadline:
                raise MeasureError(f"{path.name} did not appear")
            time.sleep(0.02)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """Give a place, and leave nothing of it behind."""
    with contextlib.ExitStack() as stack:
        yield Place(stack)


def remoterun() -> str:
    """Give the command `remoterun` of the environment that runs this."""
    return str(Path(sys.executable).with_name("remoterun"))


def tool(name: str) -> str:
    """Find a program.

    Raises:
        MeasureError: it is not installed.
    """
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        raise MeasureError(f"{name} is not installed")
    return path


def output_of(command: Sequence[str], *, timeout: float = 60.0, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and give what it printed.

    Raises:
        MeasureError: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, env=_environment(env or {})
        )
    except subprocess.TimeoutExpired as error:
        raise MeasureError(f"{Path(command[0]).name} took longer than {timeout:g} s") from error
    if done.returncode:
        raise MeasureError(f"{Path(command[0]).name} failed: {_last_line(done.stderr or done.stdout)}")
    return done.stdout.decode(errors="replace")


def wait_for_port(port: int) -> None:
    """Wait until something takes connections on a port.

    Raises:
        MeasureError: nothing does within ten seconds.
    """
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise MeasureError(f"nothing listens on port {port}")


def _port(taken: Mapping[str, object], name: str) -> int | None:
    addresses = taken.get(name)
    return int(str(addresses[0]).rpartition(":")[2]) if isinstance(addresses, list) and addresses else None


def _last_line(said: bytes) -> str:
    return said.decode(errors="replace").strip().rpartition("\n")[2][:120]


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Give the environment without settings of a node of the caller's."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("REMOTERUN_")}, **more}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
