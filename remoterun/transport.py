"""A transport: one wire, as a server half (wire → `Service`) and a client half (`Service` → wire).

Transports are found by entry point in the group `remoterun.transports`, ours and anyone's alike.
The object that an entry point names is light to import: it loads its halves when they are asked for,
so that a command line pays for one client half and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct, field

from remoterun.errors import Invalid, ServiceError, Unavailable
from remoterun.service import AsyncService, Service, ThreadedService

if TYPE_CHECKING:
    from remoterun.incoming import Incoming

ENTRY_POINT_GROUP = "remoterun.transports"

PATH: dict[str, Any] = {"path": True}
"""`Meta(extra=PATH)` marks a setting that holds a path, or several: a relative one starts where it was written."""

FLAG: dict[str, Any] = {"flag": True}
"""`Meta(extra=FLAG)` gives a transport's setting a flag of `remoterun serve`, as the node's own have."""

# The shipped transports by scheme: the same that our own entry points say (a test compares them), here so
# that a command line need not read the metadata of every installed package (10 to 30 ms).
_SHIPPED: Mapping[str, str] = {
    "tcp": "remoterun_socket",
    "tls": "remoterun_socket",
    "unix": "remoterun_socket",
    "http": "remoterun_http",
    "https": "remoterun_http",
    "rpyc": "remoterun_rpc",
    "rpycs": "remoterun_rpc",
    "zmq": "remoterun_queue.zeromq",
    "amqp": "remoterun_queue.rabbitmq",
    "amqps": "remoterun_queue.rabbitmq",
    "stomp": "remoterun_queue.activemq",
    "stomp+ssl": "remoterun_queue.activemq",
}


class ServerContext(Struct, frozen=True):
    """What a node gives to a server half."""

    service: AsyncService
    data: Path  # the node's data folder, absolute
    max_request: int  # bytes; nothing larger is held for an authenticated caller
    auth_timeout: float  # seconds; a connection that has not authenticated by then is closed
    insecure_listen: bool  # whether an address beyond loopback may go without TLS
    is_ready: Callable[[], bool]  # whether the node takes calls now
    addresses: Callable[[], Mapping[str, tuple[str, ...]]]  # what every transport took, once all have started
    incoming: Incoming | None = None  # where files arrive that callers stream; None: they come in requests alone
    url: str = ""  # of the node, where it is not the one of this process's own data folder


class ServerHalf(ABC):
    """A wire in front of a service."""

    @abstractmethod
    async def start(self) -> Mapping[str, tuple[str, ...]]:
        """Listen, and give the addresses taken, as URLs by name (`{"socket": ("tcp://127.0.0.1:7460",)}`).

        Raises:
            OSError: an address cannot be had; the text names it.
            Unavailable: what the settings ask for is refused, or a part is missing.
        """

    def welcome(self) -> Mapping[str, str]:
        """Give what the start-up message says beyond the addresses, each under a word of at most eight letters."""
        return {}

    @abstractmethod
    async def stop(self, grace: float) -> None:
        """Stop listening, let calls under way end within `grace` seconds, close every connection."""

    def brokers(self) -> Mapping[str, str]:
        """Say of each broker that this half lives on, by the transport's name, `up` or why not."""
        return {}

    def connections(self) -> Mapping[str, int]:
        """Count the open connections, by the transport's name; nothing where this half does not know them."""
        return {}

    def certificates(self) -> Mapping[str, str]:
        """Give the PEM file of the TLS certificate that callers see, by the transport's name."""
        return {}

    async def reload(self) -> None:  # noqa: B027 - most have nothing to start anew
        """Start anew what runs in processes of its own, and show certificates as their files are now, without a gap.

        Raises:
            Unavailable: that cannot be; what there is goes on.
        """


class Target(Struct, frozen=True):
    """Where a client half connects: the URL as given, and options of the caller's."""

    url: str
    timeout: float = 10.0  # seconds for connecting and for each answer that does not wait for a job
    ca_file: str | None = None  # PEM file of the authority to trust instead of the system's
    options: Mapping[str, Any] = field(default_factory=dict)


async def reload_all(halves: Iterable[ServerHalf]) -> None:
    """Reload server halves; what one of them cannot does not keep the others from it.

    Raises:
        Unavailable: one or more could not; the text says why.
    """
    failures: list[str] = []
    for half in halves:
        try:
            await half.reload()
        except ServiceError as error:
            failures.append(error.message)
    if failures:
        raise Unavailable("; ".join(failures))


class Transport(ABC):
    """What an entry point names."""

    name: ClassVar[str]  # its section in the configuration, and the name in `info` and records
    schemes: ClassVar[tuple[str, ...]]
    settings: ClassVar[type[Struct]]  # each field with a default, and Meta(description=…)

    @abstractmethod
    def server(self, context: ServerContext, settings: Any) -> ServerHalf:
        """Make the server half; nothing listens before `start`."""

    @abstractmethod
    def connect(self, target: Target) -> Service:
        """Make the client half, in its blocking shape.

        Raises:
            Unavailable: nothing answers there; the text names the address.
        """

    async def connect_async(self, target: Target, *, forwards: bool = False) -> AsyncService:
        """Make the client half in its asyncio shape; unless a transport has one, each call takes a thread.

        Parameters:
            forwards: whether the node is told for whom each session calls, as a gateway does; a wire that cannot
                tell, or a node that does not trust this end, takes every call as this end's own.

        Raises:
            Unavailable: nothing answers there; the text names the address.
        """
        import asyncio

        return ThreadedService(await asyncio.to_thread(self.connect, target))


def for_url(url: str) -> Transport:
    """Give the transport that speaks a URL's scheme.

    Raises:
        Invalid: the URL has no scheme, or one that no installed transport speaks.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise Invalid(f"{url!r} is no URL; write it like tcp://127.0.0.1:7460 or unix:///path/remoterun.sock")
    if scheme in _SHIPPED:
        import importlib

        shipped: Transport = importlib.import_module(_SHIPPED[scheme]).transport
        return shipped
    for transport in installed().values():
        if scheme in transport.schemes:
            return transport
    raise Invalid(f"no transport speaks {scheme}://; there are {', '.join(sorted(_all_schemes()))}")


def installed() -> dict[str, Transport]:
    """Give every installed transport by name.

    Raises:
        Unavailable: an entry point cannot be loaded; the text says which and why.
    """
    from importlib.metadata import entry_points

    found: dict[str, Transport] = {}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            found[point.name] = point.load()
        except (ImportError, AttributeError) as error:
            raise Unavailable(f"transport {point.name} cannot be loaded: {error}") from error
    return found


def _all_schemes() -> set[str]:
    return {scheme for transport in installed().values() for scheme in transport.schemes}
