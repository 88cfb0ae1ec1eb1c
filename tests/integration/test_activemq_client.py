"""Our client half over a real ActiveMQ that restarts, is cut off and goes away in the middle of calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import remoterun
from remoterun.client import Node
from remoterun.errors import Unavailable
from remoterun.messages import OutputEvent, StateEvent
from remoterun.testing import RunningNode, running_node
from tests.brokers.activemq import ActiveMQ, eventually, running_activemq

SCRIPTS = Path(__file__).parents[1] / "contract" / "scripts"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActiveMQ]:
    with running_activemq(tmp_path_factory.mktemp("activemq")) as running:
        yield running


@pytest.fixture(scope="module")
def node(broker: ActiveMQ) -> Iterator[RunningNode]:
    with running_node(SCRIPTS, activemq={"url": broker.url, "heartbeat": "1s"}) as running:
        yield running


@pytest.fixture
def client(broker: ActiveMQ, node: RunningNode) -> Iterator[Node]:
    with remoterun.connect(broker.proxied_url, token=node.token, timeout=20) as connected:
        yield connected


def restarted(broker: ActiveMQ) -> None:
    broker.restart()


def killed(broker: ActiveMQ) -> None:
    broker.kill()
    broker.start()


def cut_off(broker: ActiveMQ) -> None:
    broker.proxy.cut()


@pytest.mark.parametrize("fault", [restarted, killed, cut_off])
def test_a_run_goes_on(
    broker: ActiveMQ, node: RunningNode, client: Node, tmp_path: Path, fault: Callable[[ActiveMQ], None]
) -> None:
    gate = tmp_path / "gate"
    with ThreadPoolExecutor() as threads, node.connect() as direct:
        before = len(list(direct.jobs()))
        called = threads.submit(client.run, "gate", path=str(gate))
        eventually(lambda: direct.info().load.running, "the job runs")
        fault(broker)
        gate.touch()
        assert called.result(60) == "done"
        assert len(list(direct.jobs())) == before + 1


def test_events_go_on_where_the_line_broke(broker: ActiveMQ, client: Node, tmp_path: Path) -> None:
    gates = [tmp_path / f"gate {number}" for number in range(3)]
    for gate in gates:
        seen = []
        for event in client.submit("gate", path=str(gate)).events():
            seen.append(event)
            if isinstance(event, OutputEvent) and b"waiting" in event.raw():
                broker.proxy.cut()
                gate.touch()
        assert [event.n for event in seen] == list(range(1, len(seen) + 1))
        assert isinstance(seen[-1], StateEvent)
        assert seen[-1].final


def test_a_call_waits_for_a_broker_that_comes_back(broker: ActiveMQ, client: Node) -> None:
    broker.proxy.refuse()
    timer = threading.Timer(1.0, broker.proxy.heal)
    timer.start()
    assert client.run("echo", value=1) == 1
    timer.join()


def test_a_broker_that_stays_away_is_unavailable(broker: ActiveMQ, node: RunningNode) -> None:
    with remoterun.connect(broker.proxied_url, token=node.token, timeout=1) as client:
        broker.proxy.refuse()
        try:
            with pytest.raises(Unavailable, match=broker.proxied_url):
                client.run("echo", value=1)
        finally:
            broker.proxy.heal()
        assert client.run("echo", value=2) == 2


def test_closing_twice_is_allowed(broker: ActiveMQ, node: RunningNode) -> None:
    client = remoterun.connect(broker.url, token=node.token)
    client.close()
    client.close()
    with pytest.raises(Unavailable, match="was closed"):
        client.run("echo", value=1)
