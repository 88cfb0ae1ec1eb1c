"""Our client half of RPC: at a node, at a server of RPyC's own, and at whatever else may answer."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rpyc
from rpyc.core import consts
from rpyc.utils.server import ThreadedServer

from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.errors import Internal, Invalid, NotFound, Unauthenticated, Unavailable
from remoterun.messages import JobRequest
from remoterun.service import Mapped, Session, Token
from remoterun.testing import RunningNode, running_node
from remoterun.transport import Target, for_url
from tests.hostile.rpc_raw import EXCEPTION, OURS, REPLY, REQUEST, THEIRS, TUPLE, Raw, message, request, value

SCRIPTS = Path(__file__).parents[1] / "contract" / "scripts"
JOB = (
    '{"id":"1","script":"x","version":"1","state":"succeeded","attempt":1,"created":"2026-01-01T00:00:00Z",'
    '"principal":"ada","transport":"rpc","node":"n"}'
)


def event(number: int) -> str:
    start = f'{{"kind":"state","job":"1","n":{number},'
    return start + '"time":"2026-01-01T00:00:00Z","state":"running","attempt":1}'


@contextlib.contextmanager
def session(url: str, **target: Any) -> Iterator[Session]:
    service, opened = open_session(Target(url, **target), Token("rr_x"))
    try:
        yield opened
    finally:
        opened.close()
        service.close()


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(SCRIPTS, workers=4) as started:
        yield started


# -- at a server of RPyC's own -------------------------------------------------------------------------


class Genuine(rpyc.Service):  # type: ignore[misc]
    """What a node answers, from RPyC itself."""

    def exposed_login(self, token: str) -> str:
        if token != "rr_x":
            raise ValueError("wrong")
        return "ada"

    def exposed_call(self, operation: str, fields: str, callback: Any = None) -> Any:
        asked = json.loads(fields)
        if operation == "events":
            for number in range(asked["after"] + 1, 4):
                callback(event(number))
            return "3"
        if operation == "open_artifact":
            callback('{"name":"a","size":6,"media_type":"x/y"}')
            callback(b"abc")
            callback(b"def")
            return "{}"
        if operation == "get_job":
            return {"a": "reference"}
        if operation == "cancel":
            raise KeyError("of its own")
        return JOB


class Closable(ThreadedServer):  # type: ignore[misc]
    """Its threads may be told of the end by a poll of what was closed, which they take for a defect."""

    def _serve_client(self, sock: Any, credentials: Any) -> None:
        with contextlib.suppress(OSError):
            super()._serve_client(sock, credentials)


@pytest.fixture
def genuine() -> Iterator[str]:
    server = Closable(Genuine, hostname="127.0.0.1", port=0)
    server._listen()  # connections wait from here on, until it is started
    thread = threading.Thread(target=server.start)
    thread.start()
    yield f"rpyc://127.0.0.1:{server.port}"
    server.close()
    thread.join()


def test_rpycs_own_server_is_understood(genuine: str) -> None:
    with session(genuine) as caller:
        assert caller.principal == "ada"
        assert caller.run(JobRequest(script="x")).id == "1"
        assert [one.n for one in caller.events("1", 1)] == [2, 3]
        opened = caller.open_artifact("1", "a")
        assert (opened.info.size, opened.read()) == (6, b"abcdef")
        with pytest.raises(Internal, match="no plain value"):
            caller.get_job("1")
        with pytest.raises(Internal, match="of its own"):
            caller.cancel("1")
        assert caller.wait("1").id == "1"


# -- at a node that is written by hand -----------------------------------------------------------------

ROOT = (OURS, ("remoterun-node.Root", 1, 1))
Answer = Callable[[Raw, int], None] | None


def says(text: Any) -> Answer:
    return lambda raw, number: raw.send(message(REPLY, number, value(text)))


@contextlib.contextmanager
def scripted(*answers: Answer) -> Iterator[tuple[str, list[str]]]:
    """Serve a node that lets anyone in, and answers each call with the next of these; None: it hangs up."""
    asked: list[str] = []
    left = list(answers)
    threads: list[threading.Thread] = []

    def converse(line: socket.socket) -> None:
        raw = Raw(line)
        with contextlib.closing(raw), contextlib.suppress(EOFError, OSError):
            while True:
                kind, number, body = raw.receive()
                if kind != REQUEST:
                    continue
                if body[0] == consts.HANDLE_GETROOT:
                    raw.send(message(REPLY, number, ROOT))
                    continue
                _, (_, method), (_, args), *_ = body[1][1]
                if method == "login":
                    raw.send(message(REPLY, number, value("ada")))
                    continue
                asked.append(args[0] if isinstance(args[0], str) else args[0][1])
                answer = left.pop(0)
                if answer is None:
                    return
                answer(raw, number)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=converse, args=(listener.accept()[0],))
                threads.append(thread)
                thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"rpyc://127.0.0.1:{listener.getsockname()[1]}", asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def test_a_request_whose_answer_was_lost_is_not_repeated() -> None:
    with scripted(None, None) as (url, asked), session(url) as caller:
        with pytest.raises(Unavailable, match="may have been carried out"):
            caller.submit(JobRequest(script="x"))
        with pytest.raises(Unavailable, match=f"{url}.*may have been carried out"):
            caller.rerun("1")
        assert asked == ["submit", "rerun"]


def test_a_request_with_a_key_or_without_effect_is_repeated_once() -> None:
    with scripted(None, says(JOB), None, says(JOB), None, None) as (url, asked), session(url) as caller:
        assert caller.run(JobRequest(script="x", key="k")).id == "1"
        assert caller.get_job("1").id == "1"
        with pytest.raises(Unavailable, match=url):
            caller.get_job("1")
        assert asked == ["run"] * 2 + ["get_job"] * 4


def _events(first: int, last: int, *, cut: bool) -> Answer:
    def answer(raw: Raw, number: int) -> None:
        callback = (THEIRS, ("builtins.function", 1, 1))
        for n in range(first, last + 1):
            raw.send(request(n, consts.HANDLE_CALL, callback, value((event(n),)), value(())))
        if cut:
            raw.send(request(99, consts.HANDLE_CALL, callback, value((event(last + 1),)), value(()))[:-20])
            for _ in range(first, last + 1):
                raw.receive()
            raise EOFError
        raw.send(message(REPLY, number, value(last)))

    return answer


def test_events_go_on_where_the_line_broke() -> None:
    with scripted(_events(1, 2, cut=True), _events(3, 4, cut=False)) as (url, _), session(url) as caller:
        assert [one.n for one in caller.events("1")] == [1, 2, 3, 4]
    with scripted(_events(1, 2, cut=True), None) as (url, _), session(url) as caller:
        following = caller.events("1")
        assert [next(following).n, next(following).n] == [1, 2]
        with pytest.raises(Unavailable, match=url):
            next(following)


def _raises(body: Any) -> Answer:
    return lambda raw, number: raw.send(message(EXCEPTION, number, body))


@pytest.mark.parametrize(
    "answer",
    [
        says(None), says(7), says(b"{}"), says("{"), says('{"id": 1}'), says(("a",)),
        lambda raw, number: raw.send(message(REPLY, number, ROOT)),
        lambda raw, number: raw.send(message(REPLY, number, (TUPLE, (ROOT,)))),
        lambda raw, number: raw.send(message(REPLY, number, 5)),
        _raises(1), _raises("text"), _raises((("builtins", "ValueError"), ("x",), (), "")),
        _raises((("os", "system"), ("x",), (("error", "{"),), "")), _raises((1j,)),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error_of_ours(answer: Answer) -> None:
    with scripted(answer) as (url, _), session(url) as caller, pytest.raises(Internal):
        caller.get_job("1")


def test_what_a_node_asks_of_its_caller_is_refused() -> None:
    seen: list[Any] = []

    def curious(raw: Raw, number: int) -> None:
        callback = (THEIRS, ("builtins.function", 1, 1))
        seen.extend((handler, raw.ask(handler, callback, value("__globals__"))) for handler in (*range(3, 21), 99))
        raw.send(message(REPLY, number, value(JOB)))

    with scripted(curious) as (url, _), session(url) as caller:
        assert caller.get_job("1").id == "1"
    let_go = [(handler, answer) for handler, answer in seen if answer[0] == REPLY]
    assert let_go == [(consts.HANDLE_DEL, (REPLY, value(None)))]
    assert all(answer[1][0] == ("builtins", "AttributeError") for _, answer in seen if answer[0] == EXCEPTION)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\3\0\1\2\3\n", b"-ERR unknown\r\n"])
def test_what_speaks_no_rpyc_is_unavailable(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rpyc://127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            with listener.accept()[0] as line:
                line.recv(100)
                line.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unavailable, match=url), session(url):
            pass
        thread.join()


def test_an_answer_that_does_not_come_in_time_is_unavailable() -> None:
    with scripted(lambda raw, number: None) as (url, _), session(url, timeout=0.2) as caller:
        with pytest.raises(Unavailable, match=r"no answer within 0\.2 s") as late:
            caller.get_job("1")
        assert url in late.value.message


def test_where_nothing_answers_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match=f"rpyc://127.0.0.1:{port}"):
        for_url(f"rpyc://127.0.0.1:{port}").connect(Target(f"rpyc://127.0.0.1:{port}"))


@pytest.mark.parametrize("url", ["rpyc://", "rpyc://:1", "rpyc://h:x", "rpyc://h:70000"])
def test_what_is_no_address_is_invalid(url: str) -> None:
    with pytest.raises(Invalid, match="address"):
        for_url(url).connect(Target(url))


# -- at a node -----------------------------------------------------------------------------------------


def test_only_a_token_proves_a_caller_here(node: RunningNode) -> None:
    with pytest.raises(Unauthenticated, match="takes a token"):
        open_session(Target(node.urls["rpyc"]), Mapped("first"))


def test_threads_share_a_session(node: RunningNode) -> None:
    results: list[bool] = []
    with node.connect("rpyc") as client:

        def call(number: int) -> None:
            name = str(number)
            results.extend([client.run("hello", name=name)["hello"] == name for _ in range(10)])

        threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 60


def test_an_iterator_that_is_left_early_disturbs_nothing(node: RunningNode) -> None:
    with node.connect("rpyc") as client:
        job = client.submit("leaves", big=2_000_000)
        for piece in job.events():
            assert piece.n == 1
            break
        job.wait()
        chunks = job.artifact("big.bin").chunks
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        assert client.run("hello", name="Ada")["hello"] == "Ada"
        with pytest.raises(NotFound):
            job.artifact("no such")


def test_a_node_that_came_back_is_found_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    place = {"listen": [f"127.0.0.1:{port}"]}
    with running_node(SCRIPTS, data=tmp_path / "data", rpc=place) as node, node.connect("rpyc") as client:
        job = client.submit("hello", name="Ada")
        job.wait()
        node.stop()
        with pytest.raises(Unavailable, match=f"rpyc://127.0.0.1:{port}"):
            client.info()
        node.start()
        assert client.info().node
        assert job.refresh().result["hello"] == "Ada"


def test_it_imports_neither_an_event_loop_nor_rpyc() -> None:
    unwanted = "{'asyncio', 'ssl', 'logging', 'pydantic', 'rpyc'}"
    code = f"import sys, remoterun_rpc.client; print(*{unwanted} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_client_over_rpc_is_a_client(node: RunningNode) -> None:
    service, opened = open_session(Target(node.urls["rpyc"]), Token(node.token))
    with Client(service, opened) as client:
        assert client.script("argv", args=["a", "b"]).run() == '["a", "b"]\n'
