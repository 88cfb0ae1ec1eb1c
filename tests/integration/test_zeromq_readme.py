"""What the README shows of ZeroMQ works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from remoterun.testing import RunningNode, running_node
from tests.contract.wires import eventually
from tests.integration.zeromq_sockets import endpoint, pull_endpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(ROOT / "scripts") as started:
        yield started


def examples() -> list[str]:
    """Give the pieces of Python in the README that use pyzmq."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in blocks if block.strip().startswith("import zmq")]


def run(node: RunningNode, code: str, folder: Path) -> str:
    for port, address in (("7463", endpoint(node)), ("7464", pull_endpoint(node))):
        code = code.replace(f"tcp://127.0.0.1:{port}", address)
    (folder / ".remoterun").symlink_to(node.data)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_req(node: RunningNode, tmp_path: Path) -> None:
    assert run(node, examples()[0], tmp_path) == "{'hello': 'Ada'}\n"


def test_dealer(node: RunningNode, tmp_path: Path) -> None:
    printed = run(node, examples()[1], tmp_path)
    numbers = [int(number) for number in re.findall(r"'n': (\d+)", printed)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "lift-off" in printed
    assert "'final': True" in printed


def test_push(node: RunningNode, tmp_path: Path) -> None:
    assert run(node, examples()[2], tmp_path) == ""
    with node.connect() as client:
        assert eventually(lambda: any(job.key == "once" and job.has_ended for job in client.jobs()), 30)


def test_all_examples_are_tried() -> None:
    assert len(examples()) == 3
