"""The nodes and wires of the contract suite, started once and shared."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.brokers.activemq import ActiveMQ
from tests.brokers.rabbitmq import RabbitMQ
from tests.contract.wires import DISPATCHER, ENVIRONMENT, SCRIPTS, WIRES, Host, Wire, opened_host, opened_wire

BROKEN = {
    "broken.py": "def main(:\n    pass\n",
    "misset.py": '# /// script\n# [tool.remoterun]\n# isolation = "thread"\n# ///\ndef main(): pass\n',
    "_hidden.py": "print('nobody calls me')\n",
    "writable.py": "print('anyone changes me')\n",
}


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Give a short path: that of a Unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="rr-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _copy_scripts(target: Path) -> Path:
    shutil.copytree(SCRIPTS, target, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in BROKEN.items():
        (target / name).write_text(text)
    target.chmod(0o755)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (target / "writable.py").chmod(0o666)
    return target


@pytest.fixture(scope="session")
def broker_settings(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """Give a maker of the settings that lead a node to its wire's broker, by queues of its own."""

    def settings(wire: str) -> dict[str, Any]:
        name = uuid.uuid4().hex[:8]
        if wire == "amqp":
            rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
            return {"rabbitmq": {"url": rabbitmq.url, "queue": f"jobs.{name}", "dead": f"dead.{name}"}}
        if wire == "stomp":
            activemq: ActiveMQ = request.getfixturevalue("activemq")
            return {"activemq": {"url": activemq.url, "queue": f"/queue/jobs.{name}", "dead": f"/queue/dead.{name}"}}
        return {}

    return settings


@pytest.fixture(scope="session")
def hosts(
    folder: Path, broker_settings: Callable[[str], dict[str, Any]]
) -> Iterator[Callable[[str], tuple[Host, Path]]]:
    """Give the node of a wire and its scripts, started when it is first asked for."""
    started: dict[str, tuple[Host, Path]] = {}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)

        def host_of(wire: str) -> tuple[Host, Path]:
            through_broker = broker_settings(wire)
            kind = wire if wire == DISPATCHER or through_broker else "process"
            if kind not in started:
                scripts = _copy_scripts(folder / f"{kind}-scripts")
                host = stack.enter_context(opened_host(kind, scripts, folder / kind, **through_broker))
                started[kind] = (host, scripts)
            return started[kind]

        yield host_of


@pytest.fixture(scope="session", params=WIRES)
def wire(request: pytest.FixtureRequest, hosts: Callable[[str], tuple[Host, Path]]) -> Iterator[Wire]:
    """Give each way to a node in turn."""
    host, scripts = hosts(request.param)
    with opened_wire(request.param, host, scripts) as opened:
        yield opened


@pytest.fixture
def make_wire(
    wire: Wire, folder: Path, broker_settings: Callable[[str], dict[str, Any]]
) -> Iterator[Callable[..., Wire]]:
    """Give a maker of nodes with other settings, reached over the same kind of wire."""
    with ExitStack() as stack:

        def make(**settings: Any) -> Wire:
            place = folder / uuid.uuid4().hex[:8]
            place.mkdir()
            scripts = _copy_scripts(place / "scripts")
            chosen = {**broker_settings(wire.name), **settings}
            host = stack.enter_context(opened_host(wire.name, scripts, place / "data", **chosen))
            return stack.enter_context(opened_wire(wire.name, host, scripts))

        yield make


@pytest.fixture
def key() -> str:
    """Give an idempotency key that no other test uses."""
    return f"key {uuid.uuid4()}"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Give the path of a file that jobs wait for; it is there at the end, whatever the test does."""
    path = tmp_path / "gate"
    yield path
    path.touch()
