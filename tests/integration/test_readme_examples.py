"""The README's examples in Python do what it says, copied as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from remoterun.testing import RunningNode, running_node

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(ROOT / "scripts") as started:
        yield started


def example(title: str) -> str:
    """Give the first indented block after a bold title."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"**{title}**")[2]
    found = re.search(r"\n\n((?:    .*\n|\n)+)", text)
    assert found is not None, title
    return textwrap.dedent(found[1])


def run(code: str, node: RunningNode, **places: str) -> str:
    """Run an example with this node's token, its addresses in place of the README's."""
    for old, new in places.items():
        assert old in code
        code = code.replace(old, new)
    code = f"token = {node.token!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rpc(node: RunningNode) -> None:
    places = {"7462": node.urls["rpyc"].rpartition(":")[2], "/srv": str(ROOT / "scripts")}
    said = run(example("From another Python program: RPC."), node, **places)
    lines = said.splitlines()
    assert lines[0] == "{'hello': 'Ada'}"
    assert '"changed"' in lines[1]
    assert [line for line in lines if '"final":true' in line]
    assert lines[-2] == "succeeded"
    assert '"words":3' in lines[-1]
