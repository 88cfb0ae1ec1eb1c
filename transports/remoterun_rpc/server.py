"""The server half: RPyC's protocol on the node's loop, over TCP and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from remoterun.addresses import is_loopback, split
from remoterun.errors import Invalid, Unavailable
from remoterun.listening import listen
from remoterun.transport import ServerContext, ServerHalf
from remoterun_rpc.address import DEFAULT_PORT, Address
from remoterun_rpc.connection import Connection
from remoterun_rpc.connections import Connections, Terms
from remoterun_rpc.tls import server_context

if TYPE_CHECKING:
    from remoterun_rpc import RpcSettings

BACKLOG: Final = 1024  # connections that the kernel holds until they are accepted


class RpcServer(ServerHalf):
    """RPyC in front of a service."""

    def __init__(self, context: ServerContext, settings: RpcSettings) -> None:
        self._context = context
        self._settings = settings
        self._listeners: list[asyncio.Server] = []
        # The handshake comes before the protocol: both together take no longer than a connection may.
        self._patience = context.auth_timeout / (2 if settings.cert else 1)
        self._connections = Connections(self._terms())

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        tls = server_context(self._settings)
        try:
            urls = tuple([await self._listen(text, tls) for text in self._settings.listen])
        except BaseException:
            await self.stop(0)
            raise
        return {"rpc": urls} if urls else {}

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

    async def _listen(self, text: str, tls: ssl.SSLContext | None) -> str:
        try:
            host, port = split(text, DEFAULT_PORT)
        except Invalid as error:
            raise Unavailable(f"[rpc] listen: {error.message}") from error
        if tls is None and not is_loopback(host) and not self._context.insecure_listen:
            raise Unavailable(
                f"{text} is reached from other machines and would go without TLS: set [rpc] cert and key, "
                "or allow it with insecure_listen"
            )
        bound = await listen(host, port, "rpc", BACKLOG)
        self._listeners.append(
            await asyncio.get_running_loop().create_server(
                partial(Connection, self._connections),
                sock=bound,
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else self._patience,
            )
        )
        return str(Address("rpyc" if tls is None else "rpycs", host, bound.getsockname()[1]))
