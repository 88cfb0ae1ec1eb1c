"""ZeroMQ: a ROUTER that REQ and DEALER sockets call, and a PULL that PUSH sockets publish jobs into."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta, Struct

from remoterun.errors import Unavailable
from remoterun.quantities import Duration
from remoterun.transport import PATH, ServerContext, ServerHalf, Target, Transport

if TYPE_CHECKING:
    from remoterun.service import Service

_MISSING = "ZeroMQ needs pyzmq, which is not installed. Install it with: pip install 'remoterun[zeromq]'"


class ZeromqSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[zeromq]`."""

    enabled: Annotated[
        bool, Meta(description="Whether this transport is there; by default, where pyzmq is installed.")
    ] = find_spec("zmq") is not None
    listen: Annotated[
        tuple[str, ...], Meta(description="Addresses for REQ and DEALER sockets, host:port; port 0 takes a free one.")
    ] = ("127.0.0.1:7463",)
    pull: Annotated[
        tuple[str, ...], Meta(description="Addresses that PUSH sockets publish jobs into, without an answer.")
    ] = ("127.0.0.1:7464",)
    principal: Annotated[
        str, Meta(description="Who a message on `pull` without a token is from, of [principals]; empty: nobody.")
    ] = ""
    curve_secret: Annotated[
        str, Meta(description="The node's secret CURVE key (NAME.key_secret); it lets `curve_clients` in.", extra=PATH)
    ] = ""
    curve_clients: Annotated[
        str,
        Meta(
            description="Folder of the public CURVE keys (NAME.key) that are let in; NAME of [principals]: no token.",
            extra=PATH,
        ),
    ] = ""
    connections: Annotated[
        int, Meta(ge=1, description="Connections at once; when full, the oldest unauthenticated one makes room.")
    ] = 4096
    pipeline: Annotated[
        int, Meta(ge=1, description="Calls under way on one connection; further ones are refused as busy.")
    ] = 1024
    stall: Annotated[
        Duration, Meta(description="A reader that takes none of its answers for this long is cut off.")
    ] = Duration(10)


class ZeromqTransport(Transport):
    """JSON messages over `zmq://`."""

    name: ClassVar[str] = "zeromq"
    schemes: ClassVar[tuple[str, ...]] = ("zmq",)
    settings: ClassVar[type[Struct]] = ZeromqSettings

    def server(self, context: ServerContext, settings: Any) -> ServerHalf:
        try:
            from remoterun_queue.zeromq.server import ZeromqServer
        except ModuleNotFoundError as error:
            raise _missing(error, ", or set [zeromq] enabled = false") from error
        return ZeromqServer(context, settings)

    def connect(self, target: Target) -> Service:
        try:
            from remoterun_queue.zeromq.client import ZeromqService
        except ModuleNotFoundError as error:
            raise _missing(error, "") from error
        return ZeromqService(target)


def _missing(error: ModuleNotFoundError, otherwise: str) -> Exception:
    return Unavailable(_MISSING + otherwise) if (error.name or "").partition(".")[0] == "zmq" else error


transport = ZeromqTransport()
