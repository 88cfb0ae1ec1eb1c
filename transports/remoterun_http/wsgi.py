"""The HTTP API as a WSGI application in front of a node: `remoterun_http.wsgi:application`, for uWSGI and mod_wsgi.

Each process has one event loop, in a thread that starts with its first request: after the server forked. What the
environment says is the same as for `remoterun_http.asgi`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from a2wsgi.asgi import ASGIResponder

from remoterun_http.answers import HttpError, Receive, Scope, Send, refusal
from remoterun_http.asgi import Lazy as LazyAsgi

# WSGI says nothing of a body without a length: it would be taken for none.
_NO_LENGTH = HttpError(411, "the body needs a Content-Length here")


class Lazy:
    """A WSGI application whose event loop belongs to the process that serves it.

    Parameters:
        asgi: the ASGI application that answers; its `aclose` ends what it holds.
    """

    def __init__(self, asgi: Any = None) -> None:
        self._asgi: Any = asgi or LazyAsgi()
        self._process = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = _Request(self._asgi, self._running_loop())
        path = environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace").encode().decode("latin-1")
        heard = {**environ, "wsgi.input": _Body(environ["wsgi.input"]), "PATH_INFO": path}
        return _Answer(ASGIResponder(request.serve, request.loop)(heard, start_response), request)  # type: ignore[arg-type]

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None or self._process != os.getpid():
            with self._lock:
                loop = self._loop
                if loop is None or self._process != os.getpid():
                    loop = self._loop = _new_loop()
                    self._thread = threading.Thread(target=loop.run_forever, name="remoterun", daemon=True)
                    self._thread.start()
                    self._process = os.getpid()
        return loop

    def close(self) -> None:
        """Let go of the node and end the thread, where the process goes on without this application."""
        if self._loop is None or self._thread is None or self._process != os.getpid():
            return
        asyncio.run_coroutine_threadsafe(self._asgi.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None


class _Request:
    """The task that serves a request on the loop.

    Parameters:
        asgi: answers it.
        loop: runs in another thread.
    """

    def __init__(self, asgi: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._asgi = asgi
        self._task: asyncio.Task[Any] | None = None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it, as an ASGI application."""
        self._task = asyncio.current_task()
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers and not headers.get(b"content-length"):
            await refusal(_NO_LENGTH).send(send)
        else:
            await self._asgi(scope, receive, send)

    def abandon(self) -> None:
        """End the task where it still runs: a2wsgi lets it wait for ever for a caller that went away."""
        self.loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class _Answer:
    """The pieces of an answer; whoever stops to iterate over them closes it (PEP 3333)."""

    def __init__(self, pieces: Any, request: _Request) -> None:
        self._pieces = pieces
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        with closing(self):  # also where reading the request fails
            yield from self._pieces

    def close(self) -> None:
        """End the request."""
        self._pieces.close()
        self._request.abandon()


class _Body:
    """A request's body whose early end is an error; a2wsgi would read nothing again and again."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Read up to so many bytes.

        Raises:
            OSError: the caller went away.
        """
        data: bytes = self._stream.read(size)
        if size and not data:
            raise ConnectionResetError("the caller went away before its request was whole")
        return data


def _new_loop() -> asyncio.AbstractEventLoop:
    if _are_threads_greenlets():  # uvloop, which gevent cannot replace, would let none of the others run
        return asyncio.new_event_loop()
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _are_threads_greenlets() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


application = Lazy()
