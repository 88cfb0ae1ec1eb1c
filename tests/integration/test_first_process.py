"""A node as the first process of a container: a real one, in a process namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.service import Peer
from remoterun.transport import Target
from remoterun.workers import system

_PATIENCE = 30.0
_DETACHED = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "{seconds}"])
    os._exit(0)
os.wait()
"""
_UNTIL = """
while not os.path.exists({gate!r}):
    time.sleep(0.02)
"""


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def namespaces() -> list[str]:
    """Give the command that runs another one as process 1; as root no user namespace is needed for it."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    return unshare if os.geteuid() == 0 else [*unshare, "--user", "--map-current-user"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[int]:
    """Run a node as process 1; give its number as seen from here."""
    if shutil.which("unshare") is None or subprocess.run([*namespaces(), "true"], capture_output=True).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("no process namespace can be made, and CI must have them")
        pytest.skip("no process namespace can be made here")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "detaches.py").write_text(
        _DETACHED.format(seconds=600.25) + _UNTIL.format(gate=str(tmp_path / "gate"))
    )
    listen = {f"REMOTERUN_{name}_LISTEN": "127.0.0.1:0" for name in ("HTTP", "SOCKET")}
    off = {f"REMOTERUN_{name}_ENABLED": "false" for name in ("RPC", "ZEROMQ")}
    ready = tmp_path / "ready.json"
    serve = [sys.executable, "-m", "remoterun", "serve", str(tmp_path / "scripts"), "--data", str(tmp_path / "data")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*namespaces(), *serve, "--ready-file", str(ready)], env={**os.environ, **listen, **off}, stderr=log
        )
    try:
        eventually(ready.exists, (tmp_path / "log").read_text())
        assert '"pid":1,' in ready.read_text().replace(" ", "")
        yield system.children(process.pid)[0]
    finally:
        for pid in system.children(process.pid):
            system.kill(pid, 15)
        assert process.wait(_PATIENCE) == 0, "SIGTERM is taken by process 1, too"


def test_orphans_are_waited_for(node: int) -> None:
    before = {*system.children(node)}
    code = _DETACHED.format(seconds=0.2)
    enter = ["nsenter", f"--target={node}", "--pid", "--mount"] + ([] if os.geteuid() == 0 else ["--user"])
    subprocess.run([*enter, sys.executable, "-c", code], check=True, timeout=_PATIENCE)
    eventually(lambda: bool({*system.children(node)} - before), "the orphan falls to process 1")
    eventually(lambda: not {*system.children(node)} - before, "it is waited for")


def test_what_a_job_detaches_ends_with_it(node: int, tmp_path: Path) -> None:
    target = Target(f"unix://{tmp_path}/data/remoterun.sock")

    def is_there() -> bool:
        return any("600.25" in _argv(pid) for pid in system.descendants(node))

    with Client(*open_session(target, Peer(os.getuid(), os.getgid(), os.getpid()))) as client:
        job = client.submit("detaches")
        eventually(is_there, "it is detached")
        (tmp_path / "gate").touch()
        assert job.wait().state == "succeeded"
    eventually(lambda: not is_there(), "it is killed")


def _argv(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
