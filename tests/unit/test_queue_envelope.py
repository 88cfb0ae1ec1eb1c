"""The messages of queues: whatever is written is read as it was, and garbage raises only the declared error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun import operations, service
from remoterun.errors import BY_CODE, Internal, Invalid, ServiceError, TooLarge
from remoterun.messages import (
    ArtifactInfo,
    Backup,
    FieldError,
    Job,
    JobPage,
    JobQuery,
    JobRequest,
    MadeToken,
    NewToken,
    OutputEvent,
    now,
)
from remoterun.operations import OPERATIONS, STREAMS, ArtifactOf, Call, EventsAfter
from remoterun.states import State
from remoterun_queue import envelope
from remoterun_queue.envelope import Credit, Unreadable

JOB = Job(
    id="01", script="hello", version="v", state=State.SUCCEEDED, attempt=1, created=now(),
    principal="ada", transport="rabbitmq", node="n",
)  # fmt: skip

texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
requests = st.builds(
    JobRequest,
    script=texts,
    params=st.none() | st.dictionaries(texts, json_values, max_size=3),
    args=st.none() | st.lists(texts, max_size=3).map(tuple),
    stdin_base64=st.none() | st.binary(max_size=20),
    timeout=st.none() | st.floats(0, 1e6),
    key=st.none() | st.text(min_size=1, max_size=10),
)
calls = (
    requests.map(operations.run)
    | requests.map(operations.submit)
    | texts.map(operations.get_job)
    | texts.map(operations.list_scripts)
    | st.builds(operations.wait, texts, st.none() | st.floats(0, 100))
    | st.builds(operations.rerun, texts, st.booleans())
    | st.just(operations.info())
    | st.integers(0, 100).map(operations.list_refusals)
    | st.builds(JobQuery, script=st.none() | texts, limit=st.integers(1, 9)).map(operations.list_jobs)
)


def test_the_table_of_operations_is_that_of_the_service() -> None:
    assert sorted((*OPERATIONS, *STREAMS)) == list(service.OPERATIONS)


@given(calls, texts, st.none() | texts)
def test_a_request_is_read_as_it_was_written(call: Call[Any], request_id: str, token: str | None) -> None:
    read = envelope.read_request(envelope.write_request(call, request_id, token), can_answer=True)

    assert (read.operation, read.fields, read.id, read.token) == (call.operation, call.fields, request_id, token)
    assert not read.is_plain


@pytest.mark.parametrize("fields", [EventsAfter("j", 3), ArtifactOf("j", "a/b.png")])
def test_a_stream_is_asked_for_with_credit(fields: Any) -> None:
    name = next(name for name, kind in STREAMS.items() if kind is type(fields))
    read = envelope.read_request(envelope.write_stream(name, fields, "7", "t", 5), can_answer=True)
    assert (read.operation, read.fields, read.credit) == (name, fields, 5)


def test_credit_is_granted() -> None:
    read = envelope.read_request(envelope.write_credit("7", 12), can_answer=True)
    assert (read.operation, read.fields, read.id) == ("credit", Credit(12), "7")


@pytest.mark.parametrize(("can_answer", "operation"), [(True, "run"), (False, "submit")])
def test_a_message_without_op_is_a_job_request(can_answer: bool, operation: str) -> None:
    read = envelope.read_request(b'{"script": "hello", "params": {"name": "Ada"}}', can_answer=can_answer)
    assert (read.operation, read.is_plain) == (operation, True)
    assert read.fields == JobRequest(script="hello", params={"name": "Ada"})


def test_what_the_body_says_goes_before_the_properties() -> None:
    read = envelope.read_request(b'{"script": "a", "key": "own"}', can_answer=False, key="property", trace="header")
    assert (read.fields.key, read.fields.trace) == ("own", "header")


@given(st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        envelope.read_request(body, can_answer=True)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"op": "runn", "id": 4}', "no op 'runn'"),
        (b'{"op": "wait", "id": 4}', "job"),
        (b'{"op": "wait", "id": 4, "job": "x", "tmeout": 3}', "tmeout"),
        (b'{"op": "events", "id": 4, "job": "x", "after": -1}', "after"),
        (b'{"op": "events", "id": 4, "job": "x", "credit": -1}', "credit"),
        (b'{"id": 4, "script": 3}', "script"),
    ],
)
def test_an_unreadable_message_says_what_is_wrong(body: bytes, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        envelope.read_request(body, can_answer=True)


def test_the_answer_to_an_unreadable_message_has_its_id() -> None:
    with pytest.raises(Unreadable) as caught:
        envelope.read_request(b'{"op": "wait", "id": "mine"}', can_answer=True)
    assert caught.value.id == "mine"


def test_a_large_message_is_refused_unread() -> None:
    with pytest.raises(TooLarge):
        envelope.read_request(b"{" * 101, can_answer=True, largest=100)


def test_deep_json_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        envelope.read_request(b'{"script": "a", "params": ' + b"[" * 100_000, can_answer=True)


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (operations.get_job("01"), JOB),
        (operations.run(JobRequest(script="hello")), JOB),
        (operations.list_jobs(JobQuery()), JobPage(jobs=(JOB,), next="02")),
        (operations.list_jobs(JobQuery()), JobPage(jobs=())),
        (operations.list_scripts("*"), []),
        (operations.list_refusals(3), []),
        (operations.list_tokens(), []),
        (operations.new_token(NewToken(name="ci", scopes=("read",))), MadeToken("ci", "rr_x")),
        (operations.revoke_token("ci"), None),
        (operations.backup(), Backup(name="1", path="/backups/1", taken=now(), bytes=1, files=1)),
    ],
)
def test_an_answer_is_read_as_it_was_written(call: Call[Any], value: Any) -> None:
    request = envelope.read_request(envelope.write_request(call, "7", None), can_answer=True)
    answer = envelope.read_answer(envelope.answer(request, value, "ada"))
    assert answer.id == "7"
    assert answer.value(call) == value


def test_an_answer_to_run_has_state_and_result_at_its_top() -> None:
    request = envelope.read_request(b'{"script": "hello", "id": 1}', can_answer=True)
    told = json.loads(envelope.answer(request, JOB, "ada"))
    assert (told["id"], told["ok"], told["state"], told["result"]) == (1, True, "succeeded", None)
    assert told["job"]["id"] == "01"


@pytest.mark.parametrize("kind", BY_CODE.values())
def test_a_refusal_is_raised_as_it_was(kind: type[ServiceError]) -> None:
    error = kind("no", fields=[FieldError("a", "b")], retry_after=2)
    answer = envelope.read_answer(envelope.refusal("7", error))
    with pytest.raises(kind) as caught:
        answer.value(operations.info())
    assert caught.value.body() == error.body()


def test_streams_are_read_as_they_were_written() -> None:
    event = OutputEvent(job="01", n=3, time=now(), stream="stdout", data="hi")
    info = ArtifactInfo(name="a", size=1, media_type="image/png")
    assert envelope.read_answer(envelope.event(7, event)).read_event() == event
    assert envelope.read_answer(envelope.artifact(7, info)).artifact == info
    assert envelope.read_answer(envelope.chunk(7, b"\0\xff")).chunk_base64 == b"\0\xff"
    assert envelope.read_answer(envelope.end(7)).end


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_garbled_answer_raises_only_the_declared_error(body: bytes) -> None:
    call = operations.info()
    with pytest.raises(ServiceError):
        envelope.read_answer(body).value(call)


def test_a_refusal_without_a_reason_is_an_error_still() -> None:
    with pytest.raises(Internal):
        envelope.read_answer(b'{"ok": false}').check()
    assert issubclass(Unreadable, Invalid)
