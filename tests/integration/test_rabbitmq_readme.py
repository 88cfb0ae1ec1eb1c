"""What the README shows of RabbitMQ, run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

from remoterun.testing import running_node
from tests.brokers.rabbitmq import RabbitMQ

ROOT = Path(__file__).parents[2]
URL = "amqp://guest:guest@127.0.0.1:5672/%2F"


def blocks() -> list[str]:
    """Give the section's indented blocks: the configuration, then the publisher."""
    text = (ROOT / "README.md").read_text()
    section = text.partition("**From a queue: RabbitMQ.**")[2].partition("\n- `remoterun.jobs`")[0]
    assert URL in section
    return [textwrap.dedent(block) for block in re.findall(r"(?:^(?:    .*)?\n)+", section, re.M) if block.strip()]


def test_the_publisher_of_the_readme(own_rabbitmq: RabbitMQ) -> None:
    configuration, publisher = blocks()
    settings: dict[str, Any] = tomllib.loads(configuration.replace(URL, own_rabbitmq.url))
    program = publisher.replace(URL, own_rabbitmq.url)
    assert own_rabbitmq.url in program
    with running_node(ROOT / "scripts", **settings):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{'hello': 'Ada'}\n", "")


def test_the_command_line_of_the_readme(own_rabbitmq: RabbitMQ) -> None:
    with running_node(ROOT / "scripts", rabbitmq={"url": own_rabbitmq.url}) as node:
        command = [sys.executable, "-m", "remoterun", "--on", own_rabbitmq.url, "run", "hello", "name=Ada"]
        done = subprocess.run(
            command,
            env={"REMOTERUN_TOKEN": node.token, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout, done.stderr, done.returncode) == ('{"hello":"Ada"}\n', "", 0)
