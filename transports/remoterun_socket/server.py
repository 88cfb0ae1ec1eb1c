"""The server half, from `socket` up: TCP, TLS, and a Unix socket in the data folder."""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from remoterun.addresses import split
from remoterun.listening import BACKLOG, Listener, listen_all
from remoterun.tls import ServerTls
from remoterun.transport import ServerContext, ServerHalf
from remoterun_socket.address import DEFAULT_PORT, Address
from remoterun_socket.connection import Connection
from remoterun_socket.connections import Connections, Terms

if TYPE_CHECKING:
    from remoterun_socket import SocketSettings


class SocketServer(ServerHalf):
    """RESP in front of a service."""

    def __init__(self, context: ServerContext, settings: SocketSettings) -> None:
        self._context = context
        self._settings = settings
        self._listeners: list[asyncio.Server] = []
        self._tls: ServerTls | None = None
        self._connections = Connections(self._terms())
        self._unix_is_ours = False  # whether the file of the Unix socket is this half's

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        settings = self._settings
        self._tls = ServerTls.asked_for("socket", settings.cert, settings.key, settings.client_ca)
        try:
            found = {"socket": await self._listen()}
            if settings.unix:
                found["unix"] = (await self._listen_unix(),)
        except BaseException:
            await self.stop(0)
            raise
        return {name: urls for name, urls in found.items() if urls}

    async def reload(self) -> None:
        if self._tls is not None:
            self._tls.renew()

    async def stop(self, grace: float) -> None:
        for listener in self._listeners:
            listener.close()
        if self._unix_is_ours:
            self._unix_path.unlink(missing_ok=True)
            self._unix_is_ours = False
        self._listeners = []
        await self._connections.stop(grace)

    @property
    def _unix_path(self) -> Path:
        return self._context.data / "remoterun.sock"

    def connections(self) -> Mapping[str, int]:
        return {"socket": len(self._connections)}

    def certificates(self) -> Mapping[str, str]:
        return {"socket": self._settings.cert} if self._settings.cert else {}

    def _terms(self) -> Terms:
        return Terms(
            service=self._context.service,
            addresses=self._context.addresses,
            connections=self._settings.connections,
            max_request=self._context.max_request,
            auth_timeout=self._context.auth_timeout,
            pipeline=self._settings.pipeline,
            write_buffer=self._settings.write_buffer,
            stall=self._settings.stall,
        )

    async def _listen(self) -> tuple[str, ...]:
        found = await listen_all(
            self._settings.listen,
            "socket",
            partial(split, default_port=DEFAULT_PORT),
            in_clear_text=self._tls is not None or self._context.insecure_listen,
        )
        return tuple([await self._serve(listener) for listener in found])

    async def _serve(self, listener: Listener) -> str:
        secured = (
            None if listener.is_unix or self._tls is None else self._tls.context
        )  # nobody listens in on a Unix socket
        # create_unix_server() would remove the file at the end, which is not ours to remove.
        self._listeners.append(
            await asyncio.get_running_loop().create_server(
                partial(Connection, self._connections, secured is not None),
                sock=listener.bound,
                backlog=BACKLOG,
                ssl=secured,
                ssl_handshake_timeout=None if secured is None else self._context.auth_timeout,
            )
        )
        if listener.is_unix:
            return str(Address("unix", path=listener.path))
        return str(Address("tcp" if secured is None else "tls", listener.host, listener.port))

    async def _listen_unix(self) -> str:
        bound = _bind_unix(self._unix_path)
        self._unix_is_ours = True
        loop = asyncio.get_running_loop()
        self._listeners.append(
            await loop.create_unix_server(partial(Connection, self._connections, False), sock=bound, backlog=BACKLOG)
        )
        return str(Address("unix", path=str(self._unix_path)))


def _bind_unix(path: Path) -> socket.socket:
    """Make a Unix socket that only its user can open, in place of a stale one: the node's lock says it is stale.

    It gets its name once its mode is right: nobody can connect in between.

    Raises:
        OSError: it cannot be made; the text names it.
    """
    with_name = f"{path} cannot be made"
    unborn = path.with_suffix(".new")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EEXIST, f"{with_name}: there is a file of this name; move it away")
        unborn.unlink(missing_ok=True)
        bound.bind(str(unborn))
        unborn.chmod(0o600)
        bound.listen(BACKLOG)
        unborn.replace(path)
    except OSError as error:
        bound.close()
        if error.errno == errno.EEXIST:
            raise
        reason = error.strerror or "choose a data folder with a shorter path"  # bind() gives no errno for that
        text = f"{with_name}: {reason}, or set [socket] unix = false"
        raise OSError(error.errno or errno.ENAMETOOLONG, text) from error
    bound.setblocking(False)
    return bound
