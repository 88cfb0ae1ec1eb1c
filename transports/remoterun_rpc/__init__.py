"""RPC in the protocol of RPyC: a bare `rpyc.connect(host, port)` is a client. See `protocol` for what crosses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta, Struct, field

from remoterun.quantities import Duration, Size
from remoterun.transport import PATH, ServerContext, ServerHalf, Target, Transport

if TYPE_CHECKING:
    from remoterun.service import Service


class RpcSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[rpc]`."""

    enabled: Annotated[bool, Meta(description="Whether this transport is there.")] = True
    listen: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses to listen on, host:port; port 0 takes a free one, "
            "fd:NAME is a socket that a supervisor opened."
        ),
    ] = ("127.0.0.1:7462",)
    cert: Annotated[
        str, Meta(description="PEM file of the certificate; with it, the addresses speak TLS.", extra=PATH)
    ] = ""
    key: Annotated[str, Meta(description="PEM file of the certificate's key.", extra=PATH)] = ""
    client_ca: Annotated[
        str,
        Meta(
            description="PEM file of the authority whose certificates may stand for a token, see `certificates`.",
            extra=PATH,
        ),
    ] = ""
    certificates: Annotated[
        dict[str, str],
        Meta(
            description="Whom a client certificate stands for: its common name or a subject's alternative name, "
            "and the principal of that name in `principals`."
        ),
    ] = field(default_factory=dict)
    connections: Annotated[
        int, Meta(ge=1, description="Connections at once; when full, the oldest unauthenticated one makes room.")
    ] = 4096
    calls: Annotated[
        int, Meta(ge=1, description="Calls under way on one connection; further ones are refused as busy.")
    ] = 64
    unread: Annotated[
        Size, Meta(description="Bytes sent to one caller that it has neither read nor, for callbacks, answered.")
    ] = Size(8 * 2**20)
    stall: Annotated[
        Duration, Meta(description="A caller that has so much unread and takes nothing for this long is cut off.")
    ] = Duration(30)


class RpcTransport(Transport):
    """RPyC over `rpyc://` and, with TLS, `rpycs://`."""

    name: ClassVar[str] = "rpc"
    schemes: ClassVar[tuple[str, ...]] = ("rpyc", "rpycs")
    settings: ClassVar[type[Struct]] = RpcSettings

    def server(self, context: ServerContext, settings: Any) -> ServerHalf:
        from remoterun_rpc.server import RpcServer

        return RpcServer(context, settings)

    def connect(self, target: Target) -> Service:
        from remoterun_rpc.client import RpcService

        return RpcService(target)


transport = RpcTransport()
