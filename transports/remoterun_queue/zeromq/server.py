"""The server half: a ROUTER and a PULL on the node's loop, with their threads inside libzmq."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import zmq

from remoterun.errors import Unavailable
from remoterun.transport import ServerContext, ServerHalf
from remoterun_queue.answering import Answering
from remoterun_queue.zeromq import listen, zap
from remoterun_queue.zeromq.keys import Clients, KeyPair, read_pair
from remoterun_queue.zeromq.peers import Terms
from remoterun_queue.zeromq.pull import Pull
from remoterun_queue.zeromq.router import Router

if TYPE_CHECKING:
    from remoterun_queue.zeromq import ZeromqSettings

# libzmq counts messages, whatever their size: few of them, since each may be large.
_SEND_MARK: Final = 20  # on their way to one reader; the largest event has some 400 KB
_RECEIVE_MARK: Final = 16  # of one caller, read and not yet taken

# times the largest request: what is larger than a request may be and no more than this gets an answer that says so;
# at anything larger libzmq cuts the connection
_REFUSABLE: Final = 4
_HEARTBEAT: Final = 15_000  # ms between two; whoever answers none within as many is gone


class ZeromqServer(ServerHalf):
    """ZeroMQ in front of a service."""

    def __init__(self, context: ServerContext, settings: ZeromqSettings) -> None:
        self._context = context
        self._settings = settings
        self._largest = _REFUSABLE * context.max_request
        self._zmq: zmq.Context[zmq.Socket[bytes]] | None = None
        self._authenticator: zap.Authenticator | None = None
        self._clients: Clients | None = None
        self._answering = [self._new_answering(""), self._new_answering(settings.principal)]
        self._halves: list[Router | Pull] = []

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        settings = self._settings
        pair = self._open_keys()
        is_safe = pair is not None or self._context.insecure_listen
        callers = listen.places("listen", settings.listen, is_safe=is_safe)
        publishers = listen.places("pull", settings.pull, is_safe=is_safe)
        self._zmq = zmq.Context()
        try:
            if self._clients is not None:
                self._authenticator = zap.Authenticator(self._zmq, self._clients)
            found = {}
            if callers:
                socket = self._socket(zmq.ROUTER, pair)
                self._halves.append(
                    Router(socket, self._answering[0], self._terms(), settings.pipeline, settings.stall)
                )
                found["zeromq"] = tuple([await listen.bind(socket, "listen", *place) for place in callers])
            if publishers:
                socket = self._socket(zmq.PULL, pair)
                self._halves.append(Pull(socket, self._answering[1], self._terms(settings.principal)))
                found["pull"] = tuple([await listen.bind(socket, "pull", *place) for place in publishers])
        except BaseException:
            await self.stop(0)
            raise
        return found

    async def stop(self, grace: float) -> None:
        for half in self._halves:
            half.hold()
        await asyncio.gather(*(answering.stop(grace) for answering in self._answering))
        await asyncio.gather(*(half.let_answers_be_read() for half in self._halves if isinstance(half, Router)))
        for half in self._halves:
            half.close()
        self._halves = []
        if self._authenticator is not None:
            self._authenticator.close()
        context, self._zmq = self._zmq, None
        if context is not None:  # in a thread: it waits for answers that are on their way, for as long as they linger
            await asyncio.to_thread(context.term)

    def _open_keys(self) -> KeyPair | None:
        """Read the keys; None without CURVE."""
        settings = self._settings
        if not settings.curve_secret and not settings.curve_clients:
            return None
        if not settings.curve_secret or not settings.curve_clients:
            raise Unavailable(
                "CURVE needs both [zeromq] curve_secret, the node's key, and curve_clients, whom it lets in"
            )
        pair = read_pair(settings.curve_secret)
        self._clients = Clients(settings.curve_clients)
        return pair

    def _new_answering(self, principal: str) -> Answering:
        return Answering(self._context.service, "zeromq", principal=principal, largest=self._context.max_request)

    def _terms(self, principal: str = "") -> Terms:
        """Give what connections are held to: where CURVE or the configuration proves them, they may be silent."""
        is_proved = self._clients is not None or bool(principal)
        return Terms(
            connections=self._settings.connections,
            largest=self._largest,
            ahead=_RECEIVE_MARK + 1,
            patience=None if is_proved else self._context.auth_timeout,
            clients=self._clients,
        )

    def _socket(self, kind: int, pair: KeyPair | None) -> zmq.Socket[bytes]:
        assert self._zmq is not None
        socket = self._zmq.socket(kind)
        socket.linger = 500  # ms for what is on its way when the node stops
        socket.ipv6 = True
        socket.backlog = 1024
        socket.handshake_ivl = round(self._context.auth_timeout * 1000)
        socket.heartbeat_ivl = _HEARTBEAT
        socket.heartbeat_timeout = _HEARTBEAT
        socket.maxmsgsize = self._largest
        socket.rcvhwm = _RECEIVE_MARK
        if kind == zmq.ROUTER:
            socket.sndhwm = _SEND_MARK
            socket.router_mandatory = True
        if pair is not None:
            zap.demand(socket, pair.secret)
        return socket
