"""A node and a RabbitMQ that is away, short of memory, impatient, or holds other queues than it should."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from remoterun.client import Node as Client
from remoterun.client import connect
from remoterun.errors import Unavailable
from remoterun.testing import running_node
from tests.brokers.rabbitmq import RabbitMQ
from tests.contract.wires import eventually
from tests.integration.rabbitmq_node import PATIENCE, SCRIPTS, Behind, behind, caller, settings_for
from tests.integration.test_socket_client import certificate

HELLO = {"script": "hello", "params": {"name": "Ada"}}


@contextmanager
def kept_busy(found: Behind, gate: Path) -> Iterator[Client]:
    """Have a node of one worker and one place in its queue take no more jobs, until the gate is there."""
    with found.node.connect() as client:
        client.submit("gate", path=str(gate))
        client.submit("nothing")
        yield client


def told_more(found: Behind, lines: int) -> bool:
    return found.node.log().count("jobs from") > lines


def keys_of_ended(client: Client) -> list[str | None]:
    return [job.key for job in client.jobs() if job.has_ended]


def test_a_node_starts_without_its_broker_and_says_so(own_rabbitmq: RabbitMQ) -> None:
    own_rabbitmq.proxy.refuse()
    try:
        with behind(own_rabbitmq, url=own_rabbitmq.proxied_url) as found:
            assert "[rabbitmq] jobs from amqp://127.0.0.1:" in found.node.log()
            assert "down" in found.node.log()
            assert "guest" not in found.node.log(), "the broker's password is no word for a log"
            with found.node.connect() as client:
                assert client.run("hello", name="Ada") == {"hello": "Ada", "times": 1}
                assert client.info().brokers["rabbitmq"].startswith("down: ")
            own_rabbitmq.proxy.heal()
            assert eventually(lambda: own_rabbitmq.consumers(found.jobs) == 1, PATIENCE)
            with caller(own_rabbitmq, found.jobs) as publisher:
                assert publisher.call(HELLO)["ok"]
            with found.node.connect() as client:
                assert eventually(lambda: client.info().brokers["rabbitmq"] == "up", PATIENCE)
    finally:
        own_rabbitmq.proxy.heal()


def test_a_silent_broker_does_not_keep_the_node_from_starting(own_rabbitmq: RabbitMQ) -> None:
    own_rabbitmq.proxy.stall()
    try:
        with behind(own_rabbitmq, url=own_rabbitmq.proxied_url) as found, found.node.connect() as client:
            assert client.run("hello", name="Ada") == {"hello": "Ada", "times": 1}
    finally:
        own_rabbitmq.proxy.heal()


def test_another_queue_of_the_same_name_is_told_and_left_alone(own_rabbitmq: RabbitMQ) -> None:
    settings = settings_for(own_rabbitmq.url)
    jobs = settings["rabbitmq"]["queue"]
    with own_rabbitmq.channel() as channel:
        channel.queue_declare(jobs, durable=True)  # a classic queue without dead-lettering
    own_rabbitmq.publish(jobs, b"whoever's message this is")
    with running_node(SCRIPTS, **settings) as node:
        assert eventually(lambda: "choose another name" in node.log(), PATIENCE)
        assert "PRECONDITION_FAILED" in node.log()
        assert own_rabbitmq.count(jobs) == 1
        own_rabbitmq.delete(jobs)
        assert eventually(lambda: own_rabbitmq.consumers(jobs) == 1, PATIENCE)
        assert node.log().count("choose another name") == 1, "the log says it once"


def test_a_deleted_queue_is_declared_and_consumed_again(own_rabbitmq: RabbitMQ) -> None:
    """The broker cancels the consumer of a queue that is deleted, which is no error to pika."""
    with behind(own_rabbitmq) as found:
        own_rabbitmq.delete(found.jobs, found.dead)
        assert eventually(lambda: own_rabbitmq.consumers(found.jobs) == 1, PATIENCE)
        with caller(own_rabbitmq, found.jobs) as publisher:
            assert publisher.call(HELLO)["ok"]
        found.publish(b"nonsense")
        assert found.take_dead()[2]["remoterun-error"] == "invalid"


def test_a_deleted_queue_of_the_dead_loses_no_message(own_rabbitmq: RabbitMQ) -> None:
    with behind(own_rabbitmq) as found:
        own_rabbitmq.delete(found.dead)
        found.publish(b"nonsense")
        assert found.take_dead()[1] == b"nonsense"


def test_a_broker_that_waits_no_longer_for_an_acknowledgement(own_rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    own_rabbitmq.control(
        "eval",
        "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 500).",
    )
    try:
        with behind(own_rabbitmq, workers=1, queue=1) as found, kept_busy(found, tmp_path / "gate") as client:
            found.publish(HELLO, message_id="held")
            assert eventually(lambda: "timed out" in found.node.log(), PATIENCE), "the broker closes the channel"
            (tmp_path / "gate").touch()
            assert eventually(lambda: "held" in keys_of_ended(client), PATIENCE)
            assert eventually(lambda: own_rabbitmq.count(found.jobs) == 0, PATIENCE)
            assert [job.key for job in client.jobs()].count("held") == 1
    finally:
        own_rabbitmq.control("eval", "application:set_env(rabbit, consumer_timeout, 1800000).")
        own_rabbitmq.control("eval", "application:set_env(rabbit, channel_tick_interval, 60000).")


def test_a_broker_short_of_memory_gets_acknowledgements_and_later_the_answers(
    own_rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with behind(own_rabbitmq) as found, caller(own_rabbitmq, found.jobs) as publisher:
        publisher.ask({"script": "gate", "params": {"path": str(gate)}}, message_id="gated")
        with found.node.connect() as client:
            assert eventually(lambda: [job.key for job in client.jobs()] == ["gated"], PATIENCE)
            own_rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1MB")
            try:
                gate.touch()
                assert eventually(lambda: keys_of_ended(client) == ["gated"], PATIENCE)
                assert eventually(lambda: "short of memory" in found.node.log(), PATIENCE)
            finally:
                own_rabbitmq.control("set_vm_memory_high_watermark", "0.6")
        assert publisher.answer()[1]["result"] == "done"
        assert publisher.call(HELLO)["ok"]


def test_a_message_that_is_never_settled_does_not_come_back_for_ever(own_rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    settings = {"url": own_rabbitmq.proxied_url, "attempts": 2}
    with (
        behind(own_rabbitmq, workers=1, queue=1, rabbitmq=settings) as found,
        kept_busy(found, tmp_path / "gate"),
        caller(own_rabbitmq, found.jobs) as publisher,
    ):
        publisher.ask(HELLO, message_id="poison")
        for times in range(1, 4):
            assert eventually(lambda: own_rabbitmq.count(found.jobs) == 0, PATIENCE), "it is delivered"
            own_rabbitmq.proxy.cut()
            assert eventually(partial(told_more, found, 2 * times), PATIENCE), "it is up, down and up again"
            assert eventually(lambda: own_rabbitmq.consumers(found.jobs) == 1, PATIENCE)
        properties, _, headers = found.take_dead()
        assert properties.message_id == "poison"
        assert "remoterun-reason" in headers or headers["x-first-death-reason"] == "delivery_limit"
        assert own_rabbitmq.count(found.jobs) == 0
        (tmp_path / "gate").touch()


def test_a_client_outlives_its_connection(own_rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with behind(own_rabbitmq) as found, found.node.connect() as aside:
        url = f"{own_rabbitmq.proxied_url}?queue={found.jobs}"
        with connect(url, token=found.node.token) as client, ThreadPoolExecutor() as threads:
            running = threads.submit(client.run, "gate", path=str(gate))
            followed = threads.submit(lambda: list(client.submit("gate", path=str(gate)).events()))
            assert eventually(lambda: [job.state for job in aside.jobs()] == ["running"] * 2, PATIENCE)
            for _ in range(3):
                own_rabbitmq.proxy.cut()
                assert client.info().node
            gate.touch()
            assert running.result(PATIENCE) == "done"
            events = followed.result(PATIENCE)
        assert [event.n for event in events] == list(range(1, len(events) + 1))
        assert len(list(aside.jobs())) == 2, "what was asked again is the same job"


def test_tls_is_verified_by_both_halves(own_rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path / "tls")
    url = f"amqps://guest:guest@127.0.0.1:{own_rabbitmq.tls_port}"
    own_rabbitmq.configure(
        {
            "listeners.ssl.1": f"127.0.0.1:{own_rabbitmq.tls_port}",
            "ssl_options.certfile": str(cert),
            "ssl_options.keyfile": str(key),
            "ssl_options.cacertfile": str(cert),
        }
    )
    own_rabbitmq.restart()
    with behind(own_rabbitmq, rabbitmq={"url": url, "ca": str(cert)}) as found:
        assert found.node.urls["amqps"].startswith(f"amqps://127.0.0.1:{own_rabbitmq.tls_port}")
        with connect(found.node.urls["amqps"], token=found.node.token, ca_file=cert) as client:
            assert client.run("hello", name="Ada") == {"hello": "Ada", "times": 1}
        with pytest.raises(Unavailable, match="certificate"):
            connect(found.node.urls["amqps"], token=found.node.token)
    with behind(own_rabbitmq, rabbitmq={"url": url}) as found:
        assert eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in found.node.log(), PATIENCE)
        assert own_rabbitmq.consumers(found.jobs) == 0
