"""Calls by bare sockets of pyzmq: REQ, DEALER and PUSH."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from remoterun.client import Node as Client
from remoterun.messages import Job
from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from tests.contract.wires import SCRIPTS, eventually
from tests.integration.zeromq_sockets import answer, ask, endpoint, opened, pull_endpoint

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    settings: dict[str, Any] = {"principals": {"publisher": {"scopes": ["run:reports/*", "run:hello", "run:gate"]}}}
    with running_node(SCRIPTS, workers=2, zeromq={"principal": "publisher"}, **settings) as started:
        yield started


@pytest.fixture
def client(node: RunningNode) -> Iterator[Client]:
    with node.connect() as connected:
        yield connected


@pytest.fixture
def req(node: RunningNode) -> Iterator[zmq.Socket[bytes]]:
    with opened(zmq.REQ, endpoint(node)) as connected:
        yield connected


@pytest.fixture
def dealer(node: RunningNode) -> Iterator[zmq.Socket[bytes]]:
    with opened(zmq.DEALER, endpoint(node)) as connected:
        yield connected


@pytest.fixture
def push(node: RunningNode) -> Iterator[zmq.Socket[bytes]]:
    with opened(zmq.PUSH, pull_endpoint(node)) as connected:
        yield connected


def find(client: Client, script: str, key: str) -> Job | None:
    """Give the job of a script that was called with a key."""
    return next((job for job in client.jobs(script=script) if job.key == key), None)


def test_req_runs_a_script(node: RunningNode, req: zmq.Socket[bytes]) -> None:
    answered = ask(req, script="hello", params={"name": "Ada"}, token=node.token)
    assert answered["ok"] is True
    assert answered["state"] == "succeeded"
    assert answered["result"] == {"hello": "Ada", "times": 1}
    assert answered["job"]["transport"] == "zeromq"
    assert ask(req, script="hello", params={"name": "Grace"}, token=node.token)["result"]["hello"] == "Grace"


def test_dealer_needs_no_delimiter_and_gets_none(node: RunningNode, dealer: zmq.Socket[bytes]) -> None:
    body = json.dumps({"script": "nothing", "token": node.token}).encode()
    for before in ([], [b""], [b"\1way", b"back", b""]):
        dealer.send_multipart([*before, body])
        *way, answered = dealer.recv_multipart()
        assert way == before
        assert json.loads(answered)["state"] == "succeeded"


def test_calls_of_one_dealer_run_side_by_side(node: RunningNode, dealer: zmq.Socket[bytes], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    dealer.send_json({"id": "slow", "script": "gate", "params": {"path": str(gate)}, "token": node.token})
    dealer.send_json({"id": 7, "script": "hello", "params": {"name": "Ada"}, "token": node.token})
    quick = answer(dealer)
    assert (quick["id"], quick["state"]) == (7, "succeeded")
    gate.touch()
    slow = answer(dealer)
    assert (slow["id"], slow["state"]) == ("slow", "succeeded")


def test_every_other_operation(node: RunningNode, req: zmq.Socket[bytes]) -> None:
    token = {"token": node.token}
    job = ask(req, op="submit", script="leaves", **token)["job"]
    assert ask(req, op="wait", job=job["id"], timeout=20, **token)["job"]["state"] == "succeeded"
    assert ask(req, op="get_job", job=job["id"], **token)["job"]["id"] == job["id"]
    assert job["id"] in [one["id"] for one in ask(req, op="list_jobs", script="leaves", **token)["jobs"]]
    assert ask(req, op="rerun", job=job["id"], **token)["job"]["rerun_of"] == job["id"]
    assert ask(req, op="get_script", name="hello", **token)["script"]["parameters"]["required"] == ["name"]
    assert {"hello", "leaves"} <= {one["name"] for one in ask(req, op="list_scripts", **token)["scripts"]}
    info = ask(req, op="info", **token)
    assert info["principal"] == "first"
    assert info["info"]["transports"]["zeromq"] == [node.urls["zmq"]]
    assert isinstance(ask(req, op="list_refusals", **token)["refusals"], list)


def test_cancel_while_run_waits(node: RunningNode, dealer: zmq.Socket[bytes], client: Client) -> None:
    key = uuid.uuid4().hex
    dealer.send_json({"id": 1, "script": "sleeps", "key": key, "token": node.token})
    assert eventually(lambda: find(client, "sleeps", key) is not None)
    found = find(client, "sleeps", key)
    assert found is not None
    dealer.send_json({"id": 2, "op": "cancel", "job": found.id, "token": node.token})
    answers = {one["id"]: one for one in (answer(dealer), answer(dealer))}
    assert answers[2]["job"]["state"] == answers[1]["state"] == "cancelled"


def test_events_come_as_far_as_there_is_credit(
    node: RunningNode, dealer: zmq.Socket[bytes], client: Client, tmp_path: Path
) -> None:
    job = client.submit("steps")
    job.wait()
    expected = [event.n for event in job.events()]
    assert len(expected) >= 4
    dealer.send_json({"op": "events", "id": "e", "job": job.id, "credit": 2, "token": node.token})
    assert [answer(dealer)["event"]["n"] for _ in range(2)] == expected[:2]
    assert not dealer.poll(300)  # and nothing until more is granted
    dealer.send_json({"op": "credit", "id": "e", "n": 1000})
    assert [answer(dealer)["event"]["n"] for _ in expected[2:]] == expected[2:]
    assert answer(dealer) == {"id": "e", "ok": True, "end": True}


def test_a_reader_that_has_seen_enough_says_so(
    node: RunningNode, dealer: zmq.Socket[bytes], client: Client, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job = client.submit("gate", path=str(gate))
    dealer.send_json({"op": "events", "id": "e", "job": job.id, "token": node.token})
    assert answer(dealer)["event"]["n"] == 1
    dealer.send_json({"op": "credit", "id": "e", "n": 0})
    assert ask(dealer, op="info", id="i", token=node.token)
    gate.touch()
    job.wait()
    seen = [answer(dealer) for _ in range(10) if dealer.poll(200)]
    assert not any(one.get("event", {}).get("final") for one in seen)


def test_artifacts_come_in_pieces(node: RunningNode, dealer: zmq.Socket[bytes], client: Client) -> None:
    job = client.submit("leaves").wait()
    name = "plot.txt"
    dealer.send_json({"op": "open_artifact", "id": "a", "job": job.id, "name": name, "token": node.token})
    assert answer(dealer)["artifact"]["name"] == name
    data = b""
    while "chunk_base64" in (piece := answer(dealer)):
        data += base64.b64decode(piece["chunk_base64"])
    assert piece == {"id": "a", "ok": True, "end": True}
    assert data == client.job(job.id).artifact(name).read()
    assert data


def test_the_trace_reaches_the_script(node: RunningNode, req: zmq.Socket[bytes]) -> None:
    answered = ask(req, script="environment", trace=TRACE, token=node.token)
    seen = json.dumps(answered["result"])
    assert TRACE.split("-")[1] in seen


def test_push_publishes_a_job(push: zmq.Socket[bytes], client: Client) -> None:
    key = uuid.uuid4().hex
    push.send_json({"script": "hello", "params": {"name": "Ada"}, "key": key})
    assert eventually(lambda: (job := find(client, "hello", key)) is not None and job.has_ended, 30)
    job = find(client, "hello", key)
    assert job is not None
    assert (job.state, job.principal, job.transport) == (State.SUCCEEDED, "publisher", "zeromq")


def test_push_may_show_a_token(node: RunningNode, push: zmq.Socket[bytes], client: Client) -> None:
    key = uuid.uuid4().hex
    push.send_json({"op": "submit", "script": "nothing", "key": key, "token": node.token})
    assert eventually(lambda: find(client, "nothing", key) is not None, 30)
    found = find(client, "nothing", key)
    assert found is not None
    assert found.principal == "first"


def test_a_publisher_may_do_what_its_scopes_say(push: zmq.Socket[bytes], client: Client, node: RunningNode) -> None:
    key = uuid.uuid4().hex
    push.send_json({"script": "nothing", "key": key})
    assert eventually(lambda: any(one.script == "nothing" for one in client.session.list_refusals()), 30)
    assert find(client, "nothing", key) is None
    assert eventually(lambda: "publisher may not run nothing" in node.log(), 30)


def test_a_message_that_is_no_request_disturbs_no_other(push: zmq.Socket[bytes], client: Client) -> None:
    key = uuid.uuid4().hex
    for bad in (b"", b"{", b"[" * 100_000, b'{"script": 7}', b'{"op": "info"}', b'{"op": "no"}', b"\xff\xfe"):
        push.send(bad)
    push.send_multipart([b"two", b"frames"])
    push.send_json({"script": "hello", "params": {"name": "Ada"}, "key": key})
    assert eventually(lambda: find(client, "hello", key) is not None, 30)
    assert client.run("nothing") is None
