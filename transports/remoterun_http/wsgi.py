"""The HTTP API as a WSGI application in front of a node: `remoterun_http.wsgi:application`, for uWSGI and mod_wsgi.

Each process has one event loop, in a thread that starts with its first request: after the server forked. What the
environment says is the same as for `remoterun_http.asgi`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from a2wsgi import ASGIMiddleware

from remoterun_http.asgi import application as asgi_application

_asgi: Any = asgi_application  # a2wsgi types messages more narrowly than ASGI does


class Lazy:
    """A WSGI application whose event loop belongs to the process that serves it."""

    def __init__(self) -> None:
        self._process = 0
        self._application: Any = None
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._application = ASGIMiddleware(_asgi)
                    self._process = os.getpid()
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer


application = Lazy()
