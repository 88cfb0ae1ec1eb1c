"""The server half: uvicorn on the node's loop, behind sockets of our own and bounds on every connection."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping

import uvicorn

from remoterun.errors import Unavailable
from remoterun.tls import ServerTls
from remoterun.transport import ServerContext, ServerHalf
from remoterun_http import HttpSettings
from remoterun_http.accepting import Acceptor
from remoterun_http.app import Application
from remoterun_http.bounds import Bounds
from remoterun_http.console.signin import SignIns, invitation
from remoterun_http.listeners import hosts_of, listening, url

_PARTING = 1.0  # seconds at most for callers with a connection kept open to send once more
_LOOK_EVERY = 0.01  # seconds
_KEEP_ALIVE = 75  # seconds; longer than clients keep theirs, so that none is closed under a request


class HttpServer(ServerHalf):
    """HTTP in front of a service."""

    def __init__(self, context: ServerContext, settings: HttpSettings) -> None:
        self._context = context
        self._settings = settings
        self._server: _Server | None = None
        self._app: Application | None = None
        self._serving: asyncio.Task[None] | None = None
        self._tls: ServerTls | None = None
        self._signins = SignIns(context.data)
        self._page = ""

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        if not self._settings.enabled:
            return {}
        self._tls = _tls(self._settings)
        tls = None if self._tls is None else self._tls.context
        is_clear_text_fine = tls is not None or self._context.insecure_listen
        listeners = await listening(self._settings.listen, in_clear_text=is_clear_text_fine)
        self._app = Application(
            self._context.service,
            self._signins,
            max_request=self._context.max_request,
            incoming=self._context.incoming,
            is_ready=self._context.is_ready,
            hosts=(*self._settings.hosts, *hosts_of(self._settings.listen)),
            origins=self._settings.origins,
        )
        # The handshake comes before the protocol: both together take no longer than a connection may.
        patience = self._context.auth_timeout / (2 if tls else 1)
        bounds = Bounds(
            auth_timeout=patience,
            request_timeout=self._settings.request_timeout,
            connections=self._settings.connections,
        )
        self._server = _Server(_config(self._app, self._settings.proxies), bounds, tls)
        self._serving = asyncio.create_task(
            self._server.serve([each.bound for each in listeners]), name="remoterun-http"
        )
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait((self._serving, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            await self._serving
        scheme = "https" if tls else "http"
        urls = tuple(url(scheme, each) for each in listeners)
        self._page = await invitation(self._context, self._signins, urls[0])
        return {"http": urls}

    def welcome(self) -> Mapping[str, str]:
        return {"page": self._page} if self._page else {}

    async def reload(self) -> None:
        if self._tls is not None:
            self._tls.renew()

    def connections(self) -> Mapping[str, int]:
        return {} if self._server is None else {"http": len(self._server.server_state.connections)}

    def certificates(self) -> Mapping[str, str]:
        return {"http": self._settings.cert} if self._settings.cert else {}

    async def stop(self, grace: float) -> None:
        if self._server is None or self._app is None or self._serving is None:
            return
        await self._server.part(min(grace, _PARTING), self._app.stop)
        self._server.config.timeout_graceful_shutdown = math.ceil(grace)
        self._server.should_exit = True
        await self._serving
        self._server.abort()
        self._server = None


class _Server(uvicorn.Server):
    """uvicorn, with signals left to the node, and handshakes that end."""

    def __init__(self, config: uvicorn.Config, bounds: Bounds, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._bounds = bounds
        self._tls = tls
        self._acceptors: list[Acceptor] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        handshake = self._bounds.auth_timeout if self._tls else None
        self.servers = []  # uvicorn's own, which accept all that wait
        self._acceptors = [
            Acceptor(each, lambda: self._bounds.protocol(self.config, self.server_state), self._tls, handshake)
            for each in sockets or ()
        ]
        self.started = True
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for each in self._acceptors:
            each.close()
        await super().shutdown(sockets)

    async def part(self, patience: float, end_streams: Callable[[], None]) -> None:
        """Take no new connections, and let those that are kept open end with their next answer.

        A caller may be sending on an idle connection just when it is closed, and would lose that request.
        """
        for each in self._acceptors:
            each.close()
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        end_streams()
        for _ in range(round(patience / _LOOK_EVERY)):
            if not self.server_state.connections:
                return
            await asyncio.sleep(_LOOK_EVERY)

    def abort(self) -> None:
        """Close what is still open after the time to end has passed."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _config(app: Application, proxies: tuple[str, ...]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",  # that it started and stopped is the node's to say
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=10,
    )


def _tls(settings: HttpSettings) -> ServerTls | None:
    if settings.key and not settings.cert:
        raise Unavailable("[http] key is set and cert is not; set both, or neither")
    return ServerTls("http", settings.cert, settings.key, alpn=("http/1.1",)) if settings.cert else None
