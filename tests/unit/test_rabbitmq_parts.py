"""The pure parts of the RabbitMQ transport: addresses, topology, backoff."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.errors import Invalid
from remoterun_queue.rabbitmq.address import Address, parse_url
from remoterun_queue.rabbitmq.backoff import LONGEST, Backoff
from remoterun_queue.rabbitmq.topology import Topology, deliveries, event_key


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://host", Address("host", 5672)),
        ("amqps://host", Address("host", 5671, is_secure=True)),
        ("amqp://ada:s%40cret@host:1234/%2F", Address("host", 1234, "/", "ada", "s@cret")),
        ("amqp://host/", Address("host", 5672)),
        ("amqp://host/stage", Address("host", 5672, "stage")),
        ("amqp://host/a%2Fb?queue=night", Address("host", 5672, "a/b", queue="night")),
        ("amqp://[::1]:5673", Address("::1", 5673)),
    ],
)
def test_an_address_is_what_people_write(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    ["", "host", "http://host", "amqp://", "amqp://host:port", "amqp://host/a/b", "amqp://host?heartbeat=0",
     "amqp://me:secret@host:99999", "amqp://me:secret@host/a/b", "amqp://host?queue"],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Invalid) as told:
        parse_url(url)
    assert "secret" not in str(told.value)


def test_the_queue_of_a_setting_is_the_default() -> None:
    assert parse_url("amqp://host", "mine").queue == "mine"
    assert parse_url("amqp://host?queue=yours", "mine").queue == "yours"


@given(
    st.builds(
        Address,
        host=st.sampled_from(["host", "127.0.0.1", "::1"]),
        port=st.integers(1, 65535),
        vhost=st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()),
        is_secure=st.booleans(),
        queue=st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()),
        password=st.just("very secret"),
    )
)
def test_an_address_as_text_leads_there_and_has_no_credentials(address: Address) -> None:
    text = str(address)
    assert "secret" not in text
    assert "secret" not in repr(address)
    again = parse_url(text)
    assert (again.host, again.port, again.vhost, again.is_secure, again.queue) == (
        address.host, address.port, address.vhost, address.is_secure, address.queue)  # fmt: skip


@given(st.integers())
def test_backoff_doubles_up_to_a_bound_and_begins_anew(seed: int) -> None:
    backoff = Backoff(jitter=random.Random(seed))
    waits = [backoff.next() for _ in range(50)]
    assert all(0 < wait <= LONGEST for wait in waits)
    assert waits[0] <= 0.25
    assert min(waits[10:]) >= LONGEST / 2
    backoff.reset()
    assert backoff.next() <= 0.25


def test_nodes_that_lost_one_broker_do_not_return_at_once() -> None:
    firsts = {Backoff(jitter=random.Random(seed)).next() for seed in range(20)}
    assert len(firsts) == 20


def test_the_queue_of_jobs_loses_nothing_on_the_way_to_the_dead() -> None:
    arguments = Topology("jobs", "dead", "events", 7).job_arguments()
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-overflow"] == "reject-publish", "without it, at-least-once is silently at-most-once"
    assert arguments["x-delivery-limit"] == 7


@pytest.mark.parametrize(
    ("headers", "count"),
    [(None, 0), ({}, 0), ({"x-delivery-count": 3}, 3), ({"x-delivery-count": "3"}, 0), ({"x-delivery-count": None}, 0)],
)
def test_deliveries_are_what_the_broker_counted(headers: dict[str, object] | None, count: int) -> None:
    assert deliveries(headers) == count


@pytest.mark.parametrize(
    ("script", "key"),
    [("hello", "hello.state"), ("reports/daily", "reports.daily.state"), ("v1.2/run", "v1_2.run.state")],
)
def test_events_are_selected_by_folder_script_and_kind(script: str, key: str) -> None:
    assert event_key(script, "state") == key


def test_a_routing_key_is_never_too_long_for_amqp() -> None:
    assert len(event_key("ü" * 300, "progress").encode()) <= 255
