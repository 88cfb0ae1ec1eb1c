"""What the README shows of ActiveMQ, run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remoterun.testing import running_node
from tests.brokers.activemq import ActiveMQ, running_activemq

ROOT = Path(__file__).parents[2]
PORT = "61613"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ActiveMQ]:
    """Give a broker of its own: the README's queue is the default one."""
    with running_activemq(tmp_path / "broker") as running:
        yield running


def blocks() -> list[str]:
    """Give the section's indented blocks: the configuration, then the publisher."""
    text = (ROOT / "README.md").read_text()
    section = text.partition("**From a queue: ActiveMQ.**")[2].partition("\n- A message is acknowledged")[0]
    assert section.count(PORT) == 2
    return [textwrap.dedent(block) for block in re.findall(r"(?:^(?:    .*)?\n)+", section, re.M) if block.strip()]


def test_the_publisher_of_the_readme(broker: ActiveMQ) -> None:
    configuration, publisher = (block.replace(PORT, str(broker.port)) for block in blocks())
    settings: dict[str, Any] = tomllib.loads(configuration)
    with running_node(ROOT / "scripts", **settings):
        done = subprocess.run(
            [sys.executable, "-c", publisher], capture_output=True, text=True, timeout=90, check=False
        )
    assert (done.stdout, done.stderr) == ("{'hello': 'Ada'}\n", "")


def test_the_command_line_of_the_readme(broker: ActiveMQ) -> None:
    with running_node(ROOT / "scripts", activemq={"url": broker.url}) as node:
        command = [sys.executable, "-m", "remoterun", "--on", broker.url, "run", "hello", "name=Ada"]
        environment = {"REMOTERUN_TOKEN": node.token, "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ('{"hello":"Ada"}\n', "", 0)
