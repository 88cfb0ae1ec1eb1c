"""The server half: RPyC's protocol on the node's loop, over TCP and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from remoterun.addresses import split
from remoterun.errors import Unavailable
from remoterun.listening import BACKLOG, Listener, listen_all
from remoterun.tls import ServerTls
from remoterun.transport import ServerContext, ServerHalf
from remoterun_rpc.address import DEFAULT_PORT, Address
from remoterun_rpc.connection import Connection
from remoterun_rpc.connections import Connections, Terms
from remoterun_rpc.tls import server_tls

if TYPE_CHECKING:
    from remoterun_rpc import RpcSettings


class RpcServer(ServerHalf):
    """RPyC in front of a service."""

    def __init__(self, context: ServerContext, settings: RpcSettings) -> None:
        self._context = context
        self._settings = settings
        self._listeners: list[asyncio.Server] = []
        self._tls: ServerTls | None = None
        # The handshake comes before the protocol: both together take no longer than a connection may.
        self._patience = context.auth_timeout / (2 if settings.cert else 1)
        self._connections = Connections(self._terms())

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        self._tls = server_tls(self._settings)
        try:
            urls = await self._listen()
        except BaseException:
            await self.stop(0)
            raise
        return {"rpc": urls} if urls else {}

    async def reload(self) -> None:
        if self._tls is not None:
            self._tls.renew()

    async def stop(self, grace: float) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        await self._connections.stop(grace)

    def connections(self) -> Mapping[str, int]:
        return {"rpc": len(self._connections)}

    def certificates(self) -> Mapping[str, str]:
        return {"rpc": self._settings.cert} if self._settings.cert else {}

    def _terms(self) -> Terms:
        return Terms(
            service=self._context.service,
            connections=self._settings.connections,
            calls=self._settings.calls,
            max_request=self._context.max_request,
            auth_timeout=self._patience,
            unread=self._settings.unread,
            stall=self._settings.stall,
            certificates=self._settings.certificates,
        )

    async def _listen(self) -> tuple[str, ...]:
        found = await listen_all(
            self._settings.listen,
            "rpc",
            partial(split, default_port=DEFAULT_PORT),
            in_clear_text=self._tls is not None or self._context.insecure_listen,
        )
        return tuple([await self._serve(listener) for listener in found])

    async def _serve(self, listener: Listener) -> str:
        tls = self._tls
        if listener.is_unix:
            raise Unavailable("[rpc] listen: a Unix socket was handed over; RPC is served over TCP")
        self._listeners.append(
            await asyncio.get_running_loop().create_server(
                partial(Connection, self._connections),
                sock=listener.bound,
                backlog=BACKLOG,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else self._patience,
            )
        )
        return str(Address("rpyc" if tls is None else "rpycs", listener.host, listener.port))
