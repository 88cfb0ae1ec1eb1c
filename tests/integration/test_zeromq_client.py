"""Our client half: what it does where the node, or the way to it, is not as it should be."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

import remoterun
from remoterun.errors import Internal, Invalid, Unauthenticated, Unavailable
from remoterun.messages import JobRequest
from remoterun.service import Peer, Token
from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from remoterun.transport import Target, for_url
from remoterun_queue.zeromq.client import CREDIT
from tests.contract.wires import SCRIPTS, eventually

Reply = Callable[[dict[str, Any]], "bytes | list[bytes] | None"]


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(SCRIPTS, workers=4) as started:
        yield started


@contextmanager
def fake(reply: Reply) -> Iterator[str]:
    """Stand in for a node; after an answer of None the connection breaks, and another can be made."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    ready, done = threading.Event(), threading.Event()

    def serve() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.bind(f"tcp://127.0.0.1:{port}")
            ready.set()
            while not done.is_set():
                if router.poll(20):
                    answer(router)

    def answer(router: zmq.Socket[bytes]) -> None:
        caller, body = router.recv_multipart(copy=False)
        answers = reply(json.loads(body.bytes))
        if answers is None:
            with suppress(OSError), socket.socket(fileno=os.dup(int(caller.get(zmq.SRCFD)))) as connection:
                connection.shutdown(socket.SHUT_RDWR)
        else:
            for one in [answers] if isinstance(answers, bytes) else answers:
                router.send_multipart([caller.bytes, one])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(10)
        yield f"zmq://127.0.0.1:{port}"
    finally:
        done.set()
        thread.join()


def info(asked: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "id": asked["id"],
            "ok": True,
            "principal": "ada",
            "info": {
                "node": "fake",
                "version": "0",
                "python": "3",
                "started": "2026-11-26T00:00:00Z",
                "transports": {},
                "scripts": 0,
                "load": {"queued": 0, "running": 0, "workers": 1, "queue": 1},
                "enforced": {},
            },
        }
    ).encode()


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


def test_where_nothing_listens_it_says_so_at_once() -> None:
    url = f"zmq://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=f"{url}: nothing listens there"):
        remoterun.connect(url, token="x", timeout=60)


def test_a_name_that_is_none_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"no-such-host\.invalid"):
        remoterun.connect("zmq://no-such-host.invalid:7463", token="x")


def test_what_never_answers_is_unavailable_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"zmq://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match=url):
            remoterun.connect(url, token="x", timeout=0.5)


def test_what_is_no_zeromq_is_unavailable(node: RunningNode) -> None:
    url = node.urls["http"].replace("http", "zmq")
    with pytest.raises(Unavailable, match=url):
        remoterun.connect(url, token="x", timeout=15)


@pytest.mark.parametrize(
    "url",
    [
        "zmq://",
        "zmq://:7463",
        "zmq://host:port",
        "zmq://host:99999",
        "zmq://host?what=x",
        "zmq://host?key=x",
        "zmq:host",
    ],
)
def test_what_is_no_address_is_invalid(url: str) -> None:
    with pytest.raises(Invalid):
        for_url(url).connect(Target(url))


def test_only_a_token_is_a_credential(node: RunningNode) -> None:
    service = for_url(node.urls["zmq"]).connect(Target(node.urls["zmq"]))
    with pytest.raises(Unauthenticated, match="takes a token"):
        service.authenticate(Peer(0, 0, 0))
    with pytest.raises(Unauthenticated):
        service.authenticate(Token(""))
    service.close()
    service.close()


def test_a_call_that_is_not_answered_is_unavailable() -> None:
    def only_info(asked: dict[str, Any]) -> bytes | list[bytes]:
        return info(asked) if asked["op"] == "info" else []

    with (
        fake(only_info) as url,
        remoterun.connect(url, token="x", timeout=0.3) as connected,
        pytest.raises(Unavailable, match="no answer within"),
    ):
        connected.scripts()


def test_a_call_that_may_be_asked_twice_is_asked_again() -> None:
    asked: list[dict[str, Any]] = []

    def forgetful(message: dict[str, Any]) -> bytes | None:
        if message["op"] == "info":
            return info(message)
        asked.append(message)
        if len(asked) == 1:
            return None
        return json.dumps({"id": message["id"], "ok": True, "scripts": []}).encode()

    with fake(forgetful) as url, remoterun.connect(url, token="x") as connected:
        assert connected.scripts() == []
    assert len(asked) == 2
    assert asked[0] == asked[1]  # under the same id


def test_a_run_whose_answer_is_lost_is_not_run_twice() -> None:
    ran: list[dict[str, Any]] = []

    def dies(message: dict[str, Any]) -> bytes | None:
        if message["op"] == "info":
            return info(message)
        ran.append(message)
        return None

    with fake(dies) as url, remoterun.connect(url, token="x") as connected:
        with pytest.raises(Unavailable, match="may have been carried out"):
            connected.run("hello")
        assert len(ran) == 1
        with pytest.raises(Unavailable):
            connected.script("hello", key="once").run()
        assert len(ran) == 3
        assert ran[1] == ran[2]


def test_events_go_on_over_a_new_connection() -> None:
    """Given a line that breaks in the middle, the reader asks for what it has missed by number."""
    asked: list[int] = []

    def breaks(message: dict[str, Any]) -> bytes | list[bytes] | None:
        if message["op"] == "info":
            return info(message)
        if message["op"] == "credit":
            return None if len(asked) == 1 else []
        asked.append(message["after"])
        first = message["after"] + 1
        events = [event(message["id"], n) for n in range(first, first + CREDIT)]
        return (
            events
            if len(asked) == 1
            else [*events, json.dumps({"id": message["id"], "ok": True, "end": True}).encode()]
        )

    with fake(breaks) as url, remoterun.connect(url, token="x") as connected:
        numbers = [event.n for event in connected.session.events("job")]
    assert asked == [0, numbers[-1] - CREDIT]
    assert numbers == list(range(1, len(numbers) + 1))


def event(request_id: str, n: int) -> bytes:
    progress = {"job": "job", "n": n, "time": "2026-11-26T00:00:00Z", "kind": "progress", "done": n}
    return json.dumps({"id": request_id, "event": progress}).encode()


@pytest.mark.parametrize("answer", [b"", b"{", b'{"id": "other", "ok": true}', b"[]", b'{"ok": true}'])
def test_an_answer_that_is_none_of_ours_is_internal(answer: bytes) -> None:
    def strange(message: dict[str, Any]) -> bytes:
        return info(message) if message["op"] == "info" else answer

    with fake(strange) as url, remoterun.connect(url, token="x") as connected, pytest.raises(Internal):
        connected.scripts()


def test_cancel_from_another_thread(node: RunningNode) -> None:
    ended: list[State] = []
    with node.connect("zmq") as connected:
        thread = threading.Thread(
            target=lambda: ended.append(connected.session.run(JobRequest(script="sleeps", params={})).state)
        )
        thread.start()
        assert eventually(lambda: any(not job.has_ended for job in connected.jobs(script="sleeps")), 30)
        job = next(job for job in connected.jobs(script="sleeps") if not job.has_ended)
        assert connected.session.cancel(job.id).state is State.CANCELLED
        thread.join()
    assert ended == [State.CANCELLED]


def test_many_threads_call_at_once(node: RunningNode) -> None:
    results: list[Any] = []
    with node.connect("zmq") as connected:

        def call(number: int) -> None:
            request = JobRequest(script="hello", params={"name": str(number)})
            results.extend(connected.session.run(request).result for _ in range(10))

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(one["hello"] for one in results) == sorted(str(number) for number in range(8) for _ in range(10))


def test_a_process_that_was_forked_has_its_own_connection(node: RunningNode) -> None:
    with node.connect("zmq") as connected:
        assert connected.run("hello", name="parent")["hello"] == "parent"
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.write(write, connected.run("hello", name="child")["hello"].encode())
                connected.close()
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(read, 100) == b"child"
        os.close(read)
        assert connected.run("hello", name="parent again")["hello"] == "parent again"


def test_an_iterator_that_is_left_does_not_keep_it_open(node: RunningNode, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    connected = node.connect("zmq")
    job = connected.submit("gate", path=str(gate))
    events = job.events()
    assert next(events).n == 1
    connected.close()
    gate.touch()
    with pytest.raises(Unavailable):
        list(events)
