"""A caller's W3C trace context reaches the script, whichever way the call came."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from remoterun.testing import RunningNode, running_node

SCRIPT = """
import os

def main() -> str:
    return os.environ.get("TRACEPARENT", "none")
"""
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    scripts = tmp_path_factory.mktemp("scripts")
    (scripts / "traced.py").write_text(
        'import os\n\ndef main() -> str:\n    return os.environ.get("TRACEPARENT", "none")\n'
    )
    with running_node(scripts) as running:
        yield running


def by_command(node: RunningNode, folder: Path) -> str:
    env = {**os.environ, "TRACEPARENT": TRACE, "REMOTERUN_URL": node.urls["unix"]}
    command = [sys.executable, "-m", "remoterun", "run", "traced"]
    return subprocess.run(command, env=env, cwd=folder, check=True, capture_output=True, text=True).stdout


def by_socket(node: RunningNode, folder: Path) -> str:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(node.urls["unix"].removeprefix("unix://"))
        wire.sendall(f"RUN traced TRACE {TRACE}\r\nQUIT\r\n".encode())
        return b"".join(iter(lambda: wire.recv(4096), b"")).decode()


def by_http(node: RunningNode, folder: Path) -> str:
    headers = {"Authorization": f"Bearer {node.token}", "traceparent": TRACE}
    return httpx2.post(f"{node.urls['http']}/run/traced", json={}, headers=headers).text


def by_python(node: RunningNode, folder: Path) -> str:
    with node.connect("rpyc") as client:
        return str(client.script("traced", trace=TRACE).run())


@pytest.mark.parametrize("way", [by_command, by_socket, by_http, by_python])
def test_the_trace_reaches_the_script(
    node: RunningNode, tmp_path: Path, way: Callable[[RunningNode, Path], str]
) -> None:
    assert TRACE in way(node, tmp_path)


def test_what_is_no_trace_does_not(node: RunningNode) -> None:
    with node.connect("tcp") as client:
        assert client.script("traced", trace="no; trace").run() == "none"
