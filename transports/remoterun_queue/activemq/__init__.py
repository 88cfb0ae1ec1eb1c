"""ActiveMQ, and any broker that speaks STOMP 1.2: jobs from a queue, answers to where they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta, Struct

from remoterun.errors import Unavailable
from remoterun.quantities import Duration
from remoterun.transport import PATH, ServerContext, ServerHalf, Target, Transport

if TYPE_CHECKING:
    from remoterun.service import Service


class ActiveMQSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[activemq]`."""

    enabled: Annotated[bool, Meta(description="Whether this transport is there, once it has a url.")] = True
    url: Annotated[
        str, Meta(description="The broker, stomp://host:port, or stomp+ssl://host:port for TLS; empty: off.")
    ] = ""
    queue: Annotated[str, Meta(min_length=1, description="The queue that jobs are taken from.")] = (
        "/queue/remoterun.jobs"
    )
    dead: Annotated[
        str, Meta(min_length=1, description="Where refused messages go, with the reason in their headers.")
    ] = "/queue/remoterun.dead"
    principal: Annotated[
        str, Meta(description="Who a message without a token is from, of [principals.…]; empty: it needs a token.")
    ] = ""
    prefetch: Annotated[
        int, Meta(ge=1, description="Messages taken and not acknowledged yet; waiting ones are among them.")
    ] = 100
    attempts: Annotated[
        int, Meta(ge=1, description="A message that a node died over more often than this is put aside.")
    ] = 10
    login: Annotated[str, Meta(description="User name at the broker; the url may have it, too.")] = ""
    passcode: Annotated[str, Meta(description="Password at the broker; the url may have it, too.")] = ""
    ca: Annotated[
        str, Meta(description="PEM file of the authority of the broker's certificate; empty: the system's.", extra=PATH)
    ] = ""
    cert: Annotated[str, Meta(description="PEM file of the certificate to show to the broker.", extra=PATH)] = ""
    key: Annotated[str, Meta(description="PEM file of that certificate's key.", extra=PATH)] = ""
    heartbeat: Annotated[
        Duration, Meta(description="How often both ends show that they are alive; after 1.5 times that, one is gone.")
    ] = Duration(5)


class ActiveMQTransport(Transport):
    """STOMP over `stomp://` and `stomp+ssl://`."""

    name: ClassVar[str] = "activemq"
    schemes: ClassVar[tuple[str, ...]] = ("stomp", "stomp+ssl")
    settings: ClassVar[type[Struct]] = ActiveMQSettings

    def server(self, context: ServerContext, settings: Any) -> ServerHalf:
        if not settings.url:
            return _Off()
        try:
            from remoterun_queue.activemq.server import ActiveMQServer
        except ModuleNotFoundError as error:
            raise _missing(error, ", or remove [activemq] url") from error
        return ActiveMQServer(context, settings)

    def connect(self, target: Target) -> Service:
        try:
            from remoterun_queue.activemq.client import connect
        except ModuleNotFoundError as error:
            raise _missing(error, "") from error
        return connect(target)


class _Off(ServerHalf):
    """What is there while no broker is named."""

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        return {}

    async def stop(self, grace: float) -> None:
        return


def _missing(error: ModuleNotFoundError, otherwise: str) -> Exception:
    if (error.name or "").partition(".")[0] != "stomp":
        return error
    return Unavailable(f"STOMP needs stomp.py; install it with: pip install 'remoterun[activemq]'{otherwise}")


transport = ActiveMQTransport()
