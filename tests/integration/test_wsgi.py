"""The WSGI application and callers that go away: nothing of their requests may stay behind."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from remoterun_http import wsgi

_PATIENCE = 30.0
_ENVIRON = {"REQUEST_METHOD": "POST", "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1"}


class Follower:
    """An ASGI application that reads a body and streams without end; `ended` is set once its task has."""

    def __init__(self) -> None:
        self.read = b""
        self.ended = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            more = True
            while more:
                message = await receive()
                self.read += message["body"]
                more = message["more_body"]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"piece", "more_body": True})
        finally:
            self.ended.set()

    async def aclose(self) -> None:
        return


@pytest.fixture
def follower() -> Follower:
    return Follower()


@pytest.fixture
def application(follower: Follower) -> Iterator[wsgi.Lazy]:
    made = wsgi.Lazy(follower)
    yield made
    made.close()


def ask(application: wsgi.Lazy, body: bytes, length: int) -> Iterable[bytes]:
    environ = {**_ENVIRON, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(length)}
    return application(environ, lambda *_: None)


def test_a_caller_that_leaves_a_stream_ends_it(application: wsgi.Lazy, follower: Follower) -> None:
    answer: Any = ask(application, b"all", 3)
    pieces = iter(answer)
    assert next(pieces) == b"piece"
    answer.close()  # as a server does when it cannot write
    assert follower.ended.wait(_PATIENCE)
    assert follower.read == b"all"


def test_an_answer_that_nobody_reads_ends_nothing(application: wsgi.Lazy) -> None:
    answer: Any = ask(application, b"", 0)
    answer.close()


def test_a_body_that_ends_early_ends_the_request(application: wsgi.Lazy, follower: Follower) -> None:
    with pytest.raises(OSError, match="went away"):
        list(ask(application, b"half", 8))
    assert follower.ended.wait(_PATIENCE)
    assert follower.read == b"half"


def test_a_body_without_a_length_is_refused(application: wsgi.Lazy, follower: Follower) -> None:
    environ = {**_ENVIRON, "wsgi.input": io.BytesIO(b"all"), "HTTP_TRANSFER_ENCODING": "chunked"}
    statuses: list[str] = []
    pieces = application(environ, lambda status, headers, error: statuses.append(status))
    assert b"needs a Content-Length" in b"".join(pieces)
    assert statuses == ["411 Length Required"]
    assert not follower.ended.is_set()


class Noting:
    """An ASGI application that notes which paths it is asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def aclose(self) -> None:
        return


def test_a_path_that_is_no_text_is_one_that_does_not_exist() -> None:
    noting = Noting()
    environ = {**_ENVIRON, "wsgi.input": io.BytesIO(), "PATH_INFO": "/caf\xe9/\xc3\xa9"}
    with closing(wsgi.Lazy(noting)) as application:
        assert b"".join(application(environ, lambda *_: None)) == b""
    assert noting.paths == ["/caf\ufffd/\xe9"]


def test_threads_that_are_greenlets_get_asyncios_own_loop() -> None:
    code = (
        "from gevent import monkey; monkey.patch_all();"
        "from remoterun_http.wsgi import _new_loop; print(type(_new_loop()).__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=_PATIENCE, check=True)
    assert done.stdout == "asyncio.unix_events\n"
