"""HTTP: FastAPI on uvicorn."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from remoterun.quantities import Duration
from remoterun.service import Service
from remoterun.transport import FLAG, PATH, ServerContext, ServerHalf, Target, Transport


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[http]`."""

    enabled: Annotated[bool, Meta(description="Whether the node answers HTTP.")] = True
    listen: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses, host:port; port 0 takes a free one, [::1]:7461 is IPv6, "
            "fd:NAME is a socket that a supervisor opened."
        ),
    ] = ("127.0.0.1:7461",)
    cert: Annotated[
        str, Meta(description="PEM file of the certificate and its chain; with it, HTTPS is served.", extra=PATH)
    ] = ""
    key: Annotated[
        str, Meta(description="PEM file of the certificate's key; empty: it is in the file `cert`.", extra=PATH)
    ] = ""
    hosts: Annotated[
        tuple[str, ...],
        Meta(description="Host names that callers may use, besides localhost, IP addresses and those in `listen`."),
    ] = ()
    origins: Annotated[
        tuple[str, ...],
        Meta(description="Origins of other web pages that may call, like https://ops.example; its own always may."),
    ] = ()
    proxies: Annotated[
        tuple[str, ...],
        Meta(description="Addresses of proxies that are believed when they name the caller (X-Forwarded-For, -Proto)."),
    ] = ()
    connections: Annotated[
        int, Meta(ge=1, description="Connections at once; when full, the oldest unauthenticated one makes room.")
    ] = 10_000
    request_timeout: Annotated[
        Duration, Meta(description="Time for a whole request, head and body, to arrive once it began.")
    ] = Duration(10)
    processes: Annotated[
        int,
        Meta(
            ge=0,
            description="Processes that answer HTTP in front of this node; 0: the node itself does.",
            extra=FLAG,
        ),
    ] = 0


class HttpTransport(Transport):
    """Calls over HTTP, for curl, browsers and any HTTP client."""

    name: ClassVar[str] = "http"
    schemes: ClassVar[tuple[str, ...]] = ("http", "https")
    settings: ClassVar[type[Struct]] = HttpSettings

    def server(self, context: ServerContext, settings: HttpSettings) -> ServerHalf:
        if settings.processes:
            from remoterun_http.processes import HttpProcesses

            return HttpProcesses(context, settings)
        from remoterun_http.server import HttpServer

        return HttpServer(context, settings)

    def connect(self, target: Target) -> Service:
        from remoterun_http.client import HttpService

        return HttpService(target)


transport = HttpTransport()
