"""RabbitMQ as a bare publisher sees it, with pika and none of our code: confirms, answers, dead messages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from remoterun.errors import Unavailable
from remoterun.messages import Job
from remoterun.testing import running_node
from tests.brokers.rabbitmq import RabbitMQ
from tests.contract.wires import eventually
from tests.integration.rabbitmq_node import PATIENCE, SCRIPTS, Behind, behind, caller, settings_for

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HELLO = {"script": "hello", "params": {"name": "Ada"}}


@pytest.fixture(scope="module")
def served(rabbitmq: RabbitMQ) -> Iterator[Behind]:
    principals = {"publisher": {"scopes": ["run:hello", "run:environment", "run:fails", "run:echo", "read"]}}
    with behind(rabbitmq, principals=principals, limits={"request": "64KiB"}) as found:
        yield found


@pytest.fixture(autouse=True)
def no_dead_of_earlier_tests(served: Behind) -> None:
    with served.broker.channel() as channel:
        channel.queue_purge(served.dead)


def jobs_with_key(served: Behind, key: str) -> list[Job]:
    with served.node.connect() as client:
        return [job for job in client.jobs() if job.key == key]


def has_ended(served: Behind, key: str) -> bool:
    return [job.has_ended for job in jobs_with_key(served, key)] == [True]


def test_a_job_request_is_answered_with_the_finished_job(served: Behind, rabbitmq: RabbitMQ) -> None:
    with caller(rabbitmq, served.jobs) as publisher:
        correlation = publisher.ask(HELLO, message_id=uuid.uuid4().hex)
        properties, answer = publisher.answer()
    assert properties.correlation_id == correlation
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    assert (answer["ok"], answer["state"], answer["result"]) == (True, "succeeded", {"hello": "Ada", "times": 1})
    assert answer["job"]["transport"] == "rabbitmq"
    assert answer["job"]["principal"] == "publisher"
    assert answer["job"]["exit_code"] == 0


def test_a_failed_job_is_an_answer_too(served: Behind, rabbitmq: RabbitMQ) -> None:
    with caller(rabbitmq, served.jobs) as publisher:
        answer = publisher.call({"script": "fails", "params": {"how": "raise"}})
    assert answer["ok"] is True
    assert answer["state"] == "failed"
    assert answer["job"]["error"]["type"]


def test_without_reply_to_a_message_submits(served: Behind) -> None:
    key = uuid.uuid4().hex
    served.publish(HELLO, message_id=key)
    assert eventually(lambda: [job.state for job in jobs_with_key(served, key)] == ["succeeded"], PATIENCE)
    assert eventually(lambda: served.broker.count(served.jobs) == 0, PATIENCE)


def test_the_trace_context_reaches_the_script(served: Behind, rabbitmq: RabbitMQ) -> None:
    with caller(rabbitmq, served.jobs) as publisher:
        answer = publisher.call({"script": "environment"}, headers={"traceparent": TRACE})
    assert TRACE.split("-")[1] in json.dumps(answer["result"])


def test_the_same_message_id_is_one_job(served: Behind, rabbitmq: RabbitMQ) -> None:
    key = uuid.uuid4().hex
    with caller(rabbitmq, served.jobs) as publisher:
        ids = {publisher.call(HELLO, message_id=key)["job"]["id"] for _ in range(3)}
    assert len(ids) == 1
    assert len(jobs_with_key(served, key)) == 1


def test_the_same_message_many_times_at_once_is_one_job(served: Behind, rabbitmq: RabbitMQ) -> None:
    key = uuid.uuid4().hex
    with caller(rabbitmq, served.jobs) as publisher:
        for _ in range(20):
            publisher.ask(HELLO, message_id=key)
        ids = {publisher.answer()[1]["job"]["id"] for _ in range(20)}
    assert len(ids) == 1
    assert len(jobs_with_key(served, key)) == 1


def test_an_answer_waits_for_room_in_its_queue(served: Behind, rabbitmq: RabbitMQ) -> None:
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    with caller(rabbitmq, served.jobs) as publisher:
        publisher.answers = publisher.channel.queue_declare("", exclusive=True, arguments=full).method.queue
        keys = [uuid.uuid4().hex for _ in range(3)]
        for key in keys:
            publisher.ask(HELLO, message_id=key)
        for key in keys:
            assert eventually(partial(has_ended, served, key), PATIENCE)
        assert {publisher.answer()[1]["job"]["key"] for _ in keys} == set(keys)


def test_the_same_message_id_with_another_request_is_a_conflict(served: Behind, rabbitmq: RabbitMQ) -> None:
    key = uuid.uuid4().hex
    with caller(rabbitmq, served.jobs) as publisher:
        assert publisher.call(HELLO, message_id=key)["ok"]
        answer = publisher.call({"script": "hello", "params": {"name": "Bob"}}, message_id=key)
    assert answer["error"]["code"] == "conflict"
    _, _, headers = served.take_dead()
    assert headers["remoterun-error"] == "conflict"


REFUSED: list[tuple[str, bytes, str]] = [
    ("no JSON", b"\xff\x00 nonsense", "invalid"),
    ("empty", b"", "invalid"),
    ("no object", b"[1, 2]", "invalid"),
    ("no script", b'{"params": {}}', "invalid"),
    ("unknown field", b'{"script": "hello", "colour": "red"}', "invalid"),
    ("unknown op", b'{"op": "format_disk"}', "invalid"),
    ("unknown script", b'{"script": "no/such"}', "forbidden"),
    ("script that may not be run", b'{"script": "sleeps"}', "forbidden"),
    ("bad parameter", b'{"script": "hello", "params": {"name": "Ada", "times": "many"}}', "invalid"),
    ("wrong token", b'{"script": "hello", "params": {"name": "Ada"}, "token": "rr_wrong"}', "unauthenticated"),
    ("too large", b'{"script": "hello", "params": {"name": "%b"}}' % (b"x" * 70_000), "too_large"),
    ("deep", b'{"script": "hello", "params": {"name": %b}}' % (b"[" * 30_000 + b"]" * 30_000), "invalid"),
]


@pytest.mark.parametrize(("body", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_refused_message_is_dead_with_its_reason(served: Behind, body: bytes, code: str) -> None:
    served.publish(body, message_id="its own", headers={"mine": "kept"}, content_type="text/odd")
    properties, found, headers = served.take_dead()
    assert found == body
    assert headers["remoterun-error"] == code
    assert headers["remoterun-reason"]
    assert "rr_wrong" not in headers["remoterun-reason"]
    assert headers["remoterun-queue"] == served.jobs
    assert (headers["mine"], properties.message_id, properties.content_type) == ("kept", "its own", "text/odd")
    assert properties.delivery_mode == 2


@pytest.mark.parametrize(("body", "code"), [REFUSED[0][1:], REFUSED[7][1:], REFUSED[9][1:]])
def test_a_refused_message_is_answered_too(served: Behind, rabbitmq: RabbitMQ, body: bytes, code: str) -> None:
    with caller(rabbitmq, served.jobs) as publisher:
        answer = publisher.call(body)
    assert (answer["ok"], answer["error"]["code"]) == (False, code)
    assert served.take_dead()[2]["remoterun-error"] == code


def test_an_operation_is_answered_and_its_error_kept_out_of_the_dead(served: Behind, rabbitmq: RabbitMQ) -> None:
    with caller(rabbitmq, served.jobs) as publisher:
        info = publisher.call({"op": "info", "id": 7})
        assert (info["id"], info["ok"], info["principal"]) == (7, True, "publisher")
        missing = publisher.call({"op": "get_job", "id": 8, "job": "no such job"})
        assert missing["error"]["code"] == "not_found"
    assert rabbitmq.count(served.dead) == 0


def test_events_follow_a_job_over_a_reply_queue(served: Behind, rabbitmq: RabbitMQ) -> None:
    with caller(rabbitmq, served.jobs) as publisher:
        job = publisher.call({"op": "run", "id": 1, **HELLO})["job"]["id"]
        publisher.ask({"op": "events", "id": 2, "job": job})
        events = []
        while "event" in (answer := publisher.answer()[1]):
            events.append(answer["event"])
    assert answer == {"id": 2, "ok": True, "end": True}
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["final"] is True


def test_an_answer_that_nobody_waits_for_harms_nothing(served: Behind, rabbitmq: RabbitMQ) -> None:
    key = uuid.uuid4().hex
    served.publish(HELLO, message_id=key, reply_to="a.queue.that.never.was")
    assert eventually(lambda: [job.state for job in jobs_with_key(served, key)] == ["succeeded"], PATIENCE)
    with caller(rabbitmq, served.jobs) as publisher:
        assert publisher.call(HELLO)["ok"]


def test_an_answer_to_the_queue_of_jobs_itself_makes_no_loop(served: Behind, rabbitmq: RabbitMQ) -> None:
    served.publish(HELLO, reply_to=served.jobs)
    _, body, headers = served.take_dead()
    assert headers["remoterun-error"] == "invalid"
    assert json.loads(body)["state"] == "succeeded"
    assert rabbitmq.count(served.jobs) == 0


def test_without_a_principal_only_tokens_open_the_door(rabbitmq: RabbitMQ) -> None:
    with behind(rabbitmq, rabbitmq={"principal": ""}) as found, caller(rabbitmq, found.jobs) as publisher:
        assert publisher.call(HELLO)["error"]["code"] == "unauthenticated"
        assert found.take_dead()[2]["remoterun-error"] == "unauthenticated"
        assert publisher.call({**HELLO, "token": found.node.token})["ok"]


def test_a_principal_that_is_not_configured_is_nobody(rabbitmq: RabbitMQ) -> None:
    with behind(rabbitmq, rabbitmq={"principal": "ghost"}) as found:
        found.publish(HELLO)
        assert found.take_dead()[2]["remoterun-error"] == "unauthenticated"


def test_a_message_waits_while_the_node_is_busy(rabbitmq: RabbitMQ, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    with behind(rabbitmq, workers=1, queue=1, rabbitmq={"prefetch": 3}) as found:
        with found.node.connect() as client:
            client.submit("gate", path=str(gate))
            client.submit("nothing")
            for number in range(10):
                found.publish(HELLO, message_id=f"waiting {number}")
            assert eventually(lambda: rabbitmq.count(found.jobs) == 7, PATIENCE), "prefetch bounds what is held"
            with found.node.connect("amqp", found.node.token) as other:
                assert other.info().load.queued == 1, "calls do not stand behind waiting jobs"
            gate.touch()
            keys = {f"waiting {number}" for number in range(10)}
            assert eventually(lambda: {job.key for job in client.jobs() if job.has_ended} >= keys, PATIENCE)
        assert rabbitmq.count(found.dead) == 0


def test_events_of_jobs_are_published_where_that_is_set(rabbitmq: RabbitMQ) -> None:
    exchange = f"events.{uuid.uuid4().hex[:8]}"
    with (
        behind(rabbitmq, rabbitmq={"events": True, "exchange": exchange}) as found,
        caller(rabbitmq, found.jobs) as publisher,
    ):
        publisher.channel.queue_bind(publisher.answers, exchange, "reports.daily.#")
        found.publish({"script": "reports/daily", "params": {"day": "2026-11-01"}})
        found.publish({"script": "leaves"})
        kinds = []
        while True:
            properties, event = publisher.answer()
            kinds.append(event["kind"])
            assert properties.type == event["kind"]
            assert properties.headers is not None
            assert properties.headers["script"] == "reports/daily"
            if event.get("final"):
                break
    assert kinds[0] == "state"
    assert "output" not in kinds


def test_a_client_learns_that_no_node_takes_calls(rabbitmq: RabbitMQ) -> None:
    settings = settings_for(rabbitmq.url)
    with running_node(SCRIPTS, **settings) as node:
        url, token = node.urls["amqp"], node.token
    import remoterun

    with pytest.raises(Unavailable, match="no node takes calls"):
        remoterun.connect(url, token=token, timeout=5)


@pytest.mark.parametrize("url", ["amqp://127.0.0.1:1", "amqp://nobody:wrong@127.0.0.1:{port}"])
def test_a_client_says_which_broker_does_not_let_it_in(rabbitmq: RabbitMQ, url: str) -> None:
    import remoterun

    chosen = url.format(port=rabbitmq.port)
    with pytest.raises(Unavailable, match=r"amqp://127\.0\.0\.1:") as told:
        remoterun.connect(chosen, token="rr_x", timeout=10)
    assert "wrong" not in str(told.value)
