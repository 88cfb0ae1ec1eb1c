"""What callers of ZeroMQ may not do: say nothing, say too much, say something else, be someone else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from remoterun.messages import OutputEvent
from remoterun.testing import RunningNode, running_node
from tests.contract.wires import SCRIPTS, eventually
from tests.hostile.harness import MIB, Growth, descriptors
from tests.hostile.harness import SCRIPTS as HOSTILE
from tests.integration.zeromq_sockets import (
    NULL_GREETING,
    PATIENCE,
    answer,
    ask,
    bare,
    endpoint,
    frame,
    is_closed,
    opened,
    pull_endpoint,
    shake_hands,
)

AUTH_TIMEOUT = 2


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(
        [SCRIPTS, HOSTILE], workers=2, auth_timeout=AUTH_TIMEOUT, zeromq={"pipeline": 4, "stall": 2}
    ) as started:
        yield started
        assert "Traceback" not in started.log(), started.log()


@pytest.fixture
def dealer(node: RunningNode) -> Iterator[zmq.Socket[bytes]]:
    with opened(zmq.DEALER, endpoint(node)) as connected:
        yield connected


def serves(node: RunningNode) -> bool:
    """Whether an honest caller is served."""
    with opened(zmq.REQ, endpoint(node)) as req:
        return bool(ask(req, script="nothing", token=node.token)["ok"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"params":' + b'{"a":' * 50_000,
        b'{"op": "no such"}',
        b'{"op": 7}',
        b'{"op": "run"}',
        b'{"op": "run", "script": "nothing", "more": 1}',
        b'{"op": "events", "job": "x", "credit": -1}',
        b'{"op": "credit", "id": "x", "n": "many"}',
        b'{"script": "nothing", "id": {"a": 1}}',
    ],
    ids=lambda body: body[:20].decode(errors="replace"),
)
def test_what_is_no_request_is_invalid(dealer: zmq.Socket[bytes], body: bytes) -> None:
    dealer.send(body)
    refused = answer(dealer)
    assert refused["ok"] is False
    assert refused["error"]["code"] == "invalid"
    assert "\n" not in refused["error"]["message"]


def test_a_refusal_names_its_request(dealer: zmq.Socket[bytes]) -> None:
    assert ask(dealer, id="mine", op="no such")["id"] == "mine"
    assert ask(dealer, id=9, script="nothing", more=1)["id"] == 9


@pytest.mark.parametrize("frames", [[b"", b""], [b"x", b"{}"], [b"{}", b""], [b"a", b"b", b"{}"], [b""] * 100])
def test_frames_that_are_no_message_are_invalid(dealer: zmq.Socket[bytes], frames: list[bytes]) -> None:
    dealer.send_multipart(frames)
    assert answer(dealer)["error"]["code"] == "invalid"


def test_without_a_token_nothing_runs(node: RunningNode, dealer: zmq.Socket[bytes]) -> None:
    for message in (
        {"script": "nothing"},
        {"op": "info"},
        {"op": "list_scripts", "token": ""},
        {"op": "info", "token": "rr_x"},
    ):
        assert ask(dealer, **message)["error"]["code"] == "unauthenticated"
    with node.connect() as client:
        assert not [job for job in client.jobs() if job.transport == "zeromq" and job.principal != "first"]


def test_without_a_principal_a_push_needs_a_token(node: RunningNode) -> None:
    with opened(zmq.PUSH, pull_endpoint(node)) as push:
        push.send_json({"script": "hello", "params": {"name": "nobody"}})
        assert eventually(lambda: "show a token" in node.log(), 30)


def test_a_revoked_token_is_worthless_on_an_open_connection(node: RunningNode, dealer: zmq.Socket[bytes]) -> None:
    token = node.new_token(["run", "read"], name="brief")
    assert ask(dealer, script="nothing", token=token)["ok"] is True
    node.revoke_token("brief")
    assert eventually(lambda: ask(dealer, script="nothing", token=token)["ok"] is False)
    assert ask(dealer, script="nothing", token=token)["error"]["code"] == "unauthenticated"


def test_what_is_too_large_gets_a_reason(node: RunningNode, dealer: zmq.Socket[bytes]) -> None:
    refused = ask(dealer, script="nothing", stdin="x" * 2 * MIB, token=node.token)
    assert refused["error"]["code"] == "too_large"


def test_what_is_far_too_large_is_cut_off(node: RunningNode) -> None:
    with opened(zmq.DEALER, endpoint(node), reconnect_ivl=-1, immediate=True) as dealer:
        assert dealer.poll(PATIENCE, zmq.POLLOUT)
        dealer.send_json({"script": "nothing", "stdin": "x" * 8 * MIB, "token": node.token})
        assert eventually(lambda: not dealer.poll(0, zmq.POLLOUT), 30)
    assert serves(node)


def test_more_calls_at_once_than_allowed_are_busy(node: RunningNode, dealer: zmq.Socket[bytes], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    for number in range(6):
        dealer.send_json({"id": number, "script": "gate", "params": {"path": str(gate)}, "token": node.token})
    refused = [answer(dealer), answer(dealer)]
    assert [one["id"] for one in refused] == [4, 5]
    assert {one["error"]["code"] for one in refused} == {"busy"}
    gate.touch()
    assert sorted(answer(dealer)["id"] for _ in range(4)) == [0, 1, 2, 3]


def test_silence_is_cut_off(node: RunningNode) -> None:
    """Whether before the greeting, in the middle of it, or after it: who proves nothing is gone in time."""
    with contextlib.ExitStack() as stack:
        for address in (endpoint(node), pull_endpoint(node)):
            lines = [stack.enter_context(bare(address, greeted=False)) for _ in range(4)]
            lines[1].sendall(NULL_GREETING[:11])
            lines[2].sendall(NULL_GREETING)
            shake_hands(lines[3])
            for line in lines:
                assert is_closed(line)


def test_who_has_shown_a_token_may_be_silent(node: RunningNode) -> None:
    with bare(endpoint(node)) as proved, bare(endpoint(node)) as silent:
        proved.sendall(frame(json.dumps({"op": "info", "token": node.token}).encode()))
        assert is_closed(silent)
        proved.settimeout(2 * AUTH_TIMEOUT)
        assert not is_closed(proved)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 200,
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(200),
        b"AMQP\x00\x00\x09\x01" + bytes(64),
        b"*1\r\n$4\r\nPING\r\n" * 20,
        b"\xff" * 200,
        bytes(4096),
        b"\x01\x00" + b'\x0e\x00{"op":"info"}' * 9,
        NULL_GREETING[:12] + b"PLAIN" + bytes(47),
        NULL_GREETING + frame(b"\x05READY\x0bSocket-Type\xff\xff\xff\xff", command=True),
        NULL_GREETING + frame(b"\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB", command=True),
    ],
    ids=["http", "tls", "amqp", "resp", "ones", "zeros", "zmtp 1", "plain", "property", "publisher"],
)
def test_other_protocols_run_nothing(node: RunningNode, data: bytes) -> None:
    for address in (endpoint(node), pull_endpoint(node)):
        with bare(address, greeted=False) as line:
            with contextlib.suppress(ConnectionError):
                line.sendall(data)
            assert is_closed(line)
    assert serves(node)


@pytest.mark.parametrize(
    "data",
    [frame(b"", size=2**63 - 1), frame(b"", size=5 * MIB), b"\xff" * 64, frame(b"\x04PING", command=True)],
    ids=["huge", "large", "flags", "ping"],
)
def test_broken_frames_run_nothing(node: RunningNode, data: bytes) -> None:
    for address in (endpoint(node), pull_endpoint(node)):
        with bare(address) as line:
            with contextlib.suppress(ConnectionError):
                line.sendall(data)
            assert is_closed(line)
    assert serves(node)


def test_a_message_without_end_is_cut_off(node: RunningNode) -> None:
    """libzmq keeps every frame until the last one has come, and none has a limit but its own."""
    piece = frame(bytes(60_000), more=True)
    with Growth(node.pid) as growth, bare(endpoint(node)) as line:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 2**30:
                line.sendall(piece)
                sent += len(piece)
    assert sent < 2**30
    assert growth.most < 900 * MIB
    assert serves(node)


def test_no_one_gets_another_s_answer(node: RunningNode, tmp_path: Path) -> None:
    """Given a caller that goes away, one who takes its routing id is not sent its answer."""
    gate = tmp_path / "gate"

    def waits() -> bool:
        return any(not job.has_ended for job in client.jobs(script="gate"))

    def is_heard(eve: zmq.Socket[bytes]) -> bool:
        eve.send_json({"op": "info"})
        return bool(eve.poll(500)) and answer(eve)["error"]["code"] == "unauthenticated"

    with node.connect() as client, contextlib.ExitStack() as stack:
        with opened(zmq.DEALER, endpoint(node), routing_id=b"ada") as ada:
            ada.send_json({"script": "gate", "params": {"path": str(gate)}, "token": node.token})
            assert eventually(waits, 30)

        def eve_s() -> zmq.Socket[bytes]:
            return stack.enter_context(opened(zmq.DEALER, endpoint(node), routing_id=b"ada"))

        while not is_heard(eve := eve_s()):  # the node has not noticed yet that the name is free
            eve.close()
        gate.touch()
        assert eventually(lambda: not waits(), 30)
        assert is_heard(eve)  # and nothing came before that answer
        assert not eve.poll(300)


def test_a_name_that_is_taken_is_not_taken_over(node: RunningNode) -> None:
    with opened(zmq.DEALER, endpoint(node), routing_id=b"bob") as bob:
        assert ask(bob, op="info", token=node.token)["ok"] is True
        with opened(zmq.DEALER, endpoint(node), routing_id=b"bob", rcvtimeo=300) as eve:
            eve.send_json({"op": "info"})
            with pytest.raises(zmq.Again):
                eve.recv()
            assert ask(bob, op="info", token=node.token)["ok"] is True


def test_when_full_the_oldest_stranger_makes_room(tmp_path: Path) -> None:
    with (
        running_node(SCRIPTS, data=tmp_path / "data", zeromq={"connections": 3}) as node,
        opened(zmq.DEALER, endpoint(node)) as proved,
    ):
        assert ask(proved, op="info", token=node.token)["ok"] is True
        with contextlib.ExitStack() as stack:
            strangers = [stack.enter_context(bare(endpoint(node))) for _ in range(3)]
            assert is_closed(strangers[0])
            assert ask(proved, op="info", token=node.token)["ok"] is True
            assert serves(node)


def test_a_reader_of_nothing_is_cut_off(node: RunningNode) -> None:
    """Given no credit to wait for, events stop where the reader does, and it is cut off."""
    with node.connect() as client:
        job = client.submit("floods", gate=str(SCRIPTS), lines=200, width=60_000).wait()
        assert job.output.bytes > 10 * MIB
        before = descriptors(node.pid)
        request = json.dumps({"op": "events", "job": job.id, "token": node.token}).encode()
        with Growth(node.pid) as growth, contextlib.ExitStack() as stack:
            lines = [stack.enter_context(bare(endpoint(node))) for _ in range(4)]
            for line in lines:
                for _ in range(4):
                    line.sendall(frame(request))
            assert eventually(lambda: descriptors(node.pid) >= before + 4, 30)
        assert growth.most < 64 * MIB
        assert eventually(lambda: descriptors(node.pid) <= before, 30)


def test_who_leaves_leaves_nothing_behind(node: RunningNode, tmp_path: Path) -> None:
    """Given readers of a job that says nothing more, their going ends what was kept for them."""
    gate = tmp_path / "gate"
    with node.connect() as client:
        job = client.submit("gate", path=str(gate))
        assert any(isinstance(event, OutputEvent) for event in job.events())
        before = descriptors(node.pid)
        for _ in range(20):
            with opened(zmq.DEALER, endpoint(node)) as dealer:
                dealer.send_json({"op": "events", "job": job.id, "token": node.token})
                assert answer(dealer)["event"]["n"] == 1
                dealer.send_json({"op": "wait", "job": job.id, "token": node.token})
        assert eventually(lambda: descriptors(node.pid) <= before, 30)
        gate.touch()
        assert job.wait().has_ended
    assert serves(node)
