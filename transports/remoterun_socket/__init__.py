"""The raw socket: RESP2, RESP3 and inline commands, over TCP, TLS and a Unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta, Struct

from remoterun.quantities import Duration, Size
from remoterun.transport import PATH, ServerContext, ServerHalf, Target, Transport

if TYPE_CHECKING:
    from remoterun.service import AsyncService, Service


class SocketSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[socket]`."""

    enabled: Annotated[bool, Meta(description="Whether this transport is there.")] = True
    listen: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses to listen on, host:port; port 0 takes a free one, "
            "fd:NAME is a socket that a supervisor opened."
        ),
    ] = ("127.0.0.1:7460",)
    unix: Annotated[bool, Meta(description="Whether to listen on remoterun.sock in the data folder.")] = True
    cert: Annotated[
        str, Meta(description="PEM file of the certificate; with it, the addresses speak TLS.", extra=PATH)
    ] = ""
    key: Annotated[str, Meta(description="PEM file of the certificate's key.", extra=PATH)] = ""
    client_ca: Annotated[
        str,
        Meta(
            description="PEM file of the authority whose certificates callers must show, besides a token.", extra=PATH
        ),
    ] = ""
    connections: Annotated[
        int, Meta(ge=1, description="Connections at once, idle ones included; further ones are turned away.")
    ] = 16_384
    pipeline: Annotated[
        int, Meta(ge=1, description="Commands under way on one connection; further ones wait unread.")
    ] = 1024
    write_buffer: Annotated[
        Size, Meta(description="Bytes kept for a reader that is slower than its replies and events.")
    ] = Size(8 * 2**20)
    stall: Annotated[
        Duration, Meta(description="A reader whose buffer is full and that takes nothing for this long is cut off.")
    ] = Duration(10)


class SocketTransport(Transport):
    """RESP over `tcp://`, `tls://` and `unix://`."""

    name: ClassVar[str] = "socket"
    schemes: ClassVar[tuple[str, ...]] = ("tcp", "tls", "unix")
    settings: ClassVar[type[Struct]] = SocketSettings

    def server(self, context: ServerContext, settings: Any) -> ServerHalf:
        from remoterun_socket.server import SocketServer

        return SocketServer(context, settings)

    def connect(self, target: Target) -> Service:
        from remoterun_socket.client import SocketService

        return SocketService(target)

    async def connect_async(self, target: Target, *, forwards: bool = False) -> AsyncService:
        from remoterun_socket.aclient import AsyncSocketService

        return AsyncSocketService(target, forwards=forwards and target.url.startswith("unix:"))


transport = SocketTransport()
