"""A gateway: transports in front of a node elsewhere. It has no store and no workers, so there can be many.

The caller's own token decides at the node. On the node's Unix socket, a gateway of the same user also says for whom
it calls, so that the records name the caller's address and transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from remoterun import __version__
from remoterun.addresses import without_credentials
from remoterun.config import Loaded
from remoterun.errors import ServiceError, Unavailable
from remoterun.incoming import Incoming
from remoterun.local import find_credential
from remoterun.logs import Log
from remoterun.service import AsyncService, Origin, Token
from remoterun.serving import Server, serve_until_stopped
from remoterun.transport import ServerContext, ServerHalf, Target, Transport, for_url, installed, reload_all

_LOOK_EVERY, _LOOK_AGAIN = 1.0, 0.1  # seconds between two looks: while the node answers, and while it does not


class Gateway(Server):
    """Serves transports in front of the node at a URL.

    Parameters:
        loaded: the transports' settings, and the bounds of requests.
        target: where the node is.
        transports: the names of those to serve.
    """

    def __init__(self, loaded: Loaded, target: Target, transports: Sequence[str]) -> None:
        self._loaded = loaded
        self._target = target
        self._names = transports
        self.addresses: dict[str, tuple[str, ...]] = {}
        self._halves: list[ServerHalf] = []
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        settings = self._loaded.node
        service = await open_service(self._target)
        self._stack.push_async_callback(service.aclose)
        node = Reachability(service, self._target)
        await node.start()
        self._stack.push_async_callback(node.stop)
        context = ServerContext(
            service=service,
            data=Path(settings.data),
            max_request=settings.limits.request,
            auth_timeout=settings.auth_timeout,
            insecure_listen=settings.insecure_listen,
            is_ready=lambda: node.answers,
            addresses=self._known_addresses,
            url=self._target.url,
            incoming=self._stack.enter_context(passing_files(settings.limits.request)),
        )
        for name, transport in self._chosen().items():
            half = transport.server(context, self._loaded.sections[name])
            self.addresses.update(await half.start())
            self._halves.append(half)

    async def stop(self) -> None:
        await asyncio.gather(*(half.stop(self._loaded.node.grace) for half in self._halves), return_exceptions=True)
        await self._stack.aclose()

    async def reload(self) -> None:
        await reload_all(self._halves)

    def announcement(self) -> str:
        lines = [f"remoterun {__version__}: gateway to {without_credentials(self._target.url)}"]
        for name, addresses in self.addresses.items():
            lines.extend(f"  {name:<8} {address}" for address in addresses)
        return "\n".join(lines)

    def _known_addresses(self) -> Mapping[str, tuple[str, ...]]:
        return self.addresses

    def _chosen(self) -> dict[str, Transport]:
        known = installed()
        for name in self._names:
            if name not in known:
                raise Unavailable(f"there is no transport {name!r}; there are {', '.join(known)}")
        return {name: known[name] for name in self._names}


class Reachability:
    """Whether a node answers, looked at again and again.

    Without a credential of its own a gateway does not look: the node would record each look as a refused call.
    """

    def __init__(self, service: AsyncService, target: Target) -> None:
        self._service = service
        self._credential = find_credential(target.url, None, os.environ, Path(os.devnull))
        self.answers = self._credential == Token("")
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, then go on looking."""
        if self._credential == Token(""):
            return
        await self._look()
        self._looking = asyncio.create_task(self._go_on(), name="remoterun-reachability")

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY if self.answers else _LOOK_AGAIN)
            await self._look()

    async def _look(self) -> None:
        try:
            session = await self._service.authenticate(self._credential, Origin("gateway"))
            await session.info()
        except Unavailable:
            self.answers = False
        except ServiceError:
            self.answers = True  # it answers, though not to us
        else:
            self.answers = True


@contextlib.contextmanager
def passing_files(largest: int) -> Iterator[Incoming]:
    """Give a place for files that pass through a gateway, removed at the end: a request to the node holds them whole.

    Parameters:
        largest: bytes of a request.
    """
    with tempfile.TemporaryDirectory(prefix="remoterun-gateway-", ignore_cleanup_errors=True) as folder:
        yield Incoming(Path(folder), largest)


async def open_service(target: Target) -> AsyncService:
    """Give the node at a URL as a service in front of which transports can stand.

    Raises:
        Invalid: no transport speaks this URL.
        Unavailable: nothing answers there, where the transport looks at once.
    """
    return await for_url(target.url).connect_async(target, forwards=True)


def serve(loaded: Loaded, target: Target, transports: Sequence[str], ready_file: Path | None = None) -> int:
    """Run a gateway until it is told to stop; give the exit code."""
    settings = loaded.node
    log = Log(settings.log_level, settings.log_format, settings.name or socket.gethostname())
    return serve_until_stopped(lambda: Gateway(loaded, target, transports), log, ready_file)
