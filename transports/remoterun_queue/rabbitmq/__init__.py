"""RabbitMQ: jobs from a durable quorum queue, over AMQP 0-9-1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta, Struct

from remoterun.errors import Unavailable
from remoterun.transport import PATH, ServerContext, ServerHalf, Target, Transport

if TYPE_CHECKING:
    from remoterun.service import Service


class RabbitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The section `[rabbitmq]`."""

    enabled: Annotated[bool, Meta(description="Whether this transport is there, once it has a `url`.")] = True
    url: Annotated[
        str, Meta(description="The broker, like amqp://user:password@127.0.0.1:5672/%2F; amqps:// is TLS.")
    ] = ""
    queue: Annotated[str, Meta(min_length=1, max_length=200, description="The quorum queue that jobs come from.")] = (
        "remoterun.jobs"
    )
    dead: Annotated[
        str, Meta(min_length=1, max_length=200, description="The queue where refused messages go, with the reason.")
    ] = "remoterun.dead"
    principal: Annotated[
        str, Meta(description="Who a message without a token is from: the name of a section [principals.…].")
    ] = ""
    prefetch: Annotated[
        int, Meta(ge=1, le=65535, description="Messages that may be here at once before their jobs are durable.")
    ] = 100
    attempts: Annotated[
        int, Meta(ge=1, description="How often a message is delivered again before it goes to the dead ones.")
    ] = 20
    events: Annotated[bool, Meta(description="Whether events of jobs from the queue are published to an exchange.")] = (
        False
    )
    exchange: Annotated[
        str, Meta(min_length=1, max_length=200, description="The topic exchange that `events` are published to.")
    ] = "remoterun.events"
    ca: Annotated[
        str, Meta(description="PEM file of the authority to trust instead of the system's, for amqps://.", extra=PATH)
    ] = ""
    cert: Annotated[
        str, Meta(description="PEM file of the certificate to show to the broker, with its key.", extra=PATH)
    ] = ""


class RabbitTransport(Transport):
    """Jobs, and everything else, over `amqp://` and `amqps://`."""

    name: ClassVar[str] = "rabbitmq"
    schemes: ClassVar[tuple[str, ...]] = ("amqp", "amqps")
    settings: ClassVar[type[Struct]] = RabbitSettings

    def server(self, context: ServerContext, settings: RabbitSettings) -> ServerHalf:
        if not settings.url:
            return _Off()
        _check_installed()
        from remoterun_queue.rabbitmq.server import RabbitServer

        return RabbitServer(context, settings)

    def connect(self, target: Target) -> Service:
        _check_installed()
        from remoterun_queue.conversation import QueueService
        from remoterun_queue.rabbitmq.client import RabbitLine

        return QueueService(RabbitLine(target), target.timeout)


class _Off(ServerHalf):
    """What stands for a broker that nobody named."""

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        return {}

    async def stop(self, grace: float) -> None:
        return


def _check_installed() -> None:
    try:
        import pika  # noqa: F401
    except ImportError as error:
        raise Unavailable("RabbitMQ needs pika. Install it with: pip install 'remoterun[rabbitmq]'") from error


transport = RabbitTransport()
