"""The HTTP API as an ASGI application in front of a node: `remoterun_http.asgi:application`, for any ASGI server.

The environment says where the node is and how to behave: REMOTERUN_URL (by default the local node's Unix socket),
REMOTERUN_CONFIG, REMOTERUN_HTTP_HOSTS and the like. Nothing is opened before the first request, so that a server may
import it and fork then. The caller's own token decides.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from remoterun.config import Loaded, load
from remoterun.errors import ServiceError
from remoterun.gateway import Reachability, open_service, passing_files
from remoterun.local import CONFIG_NAME, data_folder, local_url
from remoterun.transport import Target, installed
from remoterun_http import HttpSettings
from remoterun_http.answers import Receive, Scope, Send, refusal
from remoterun_http.app import Application
from remoterun_http.console.signin import SignIns


class Lazy:
    """An application that is opened at its first request, in the process and on the loop that serve it."""

    def __init__(self) -> None:
        self._opened: tuple[int, asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._resources = AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        try:
            answer = await self._application()
        except ServiceError as error:  # the node cannot be reached yet
            await refusal(error).send(send)
            return
        await answer(scope, receive, send)

    async def _application(self) -> Any:
        process, loop = os.getpid(), asyncio.get_running_loop()
        if self._opened is None or self._opened[:2] != (process, loop):
            self._opened = (process, loop, asyncio.ensure_future(self._open()))
        opening = self._opened[2]
        try:
            return await asyncio.shield(opening)
        except Exception:
            if self._opened[2] is opening:
                self._opened = None  # the next request tries again
            raise

    async def _open(self) -> Any:
        """Give the application, or what believes proxies in front of it."""
        loaded = _load()
        settings: HttpSettings = loaded.sections["http"]
        url = os.environ.get("REMOTERUN_URL") or local_url(data_folder(os.environ))
        target = Target(url)
        async with AsyncExitStack() as stack:
            service = await open_service(target)
            stack.push_async_callback(service.aclose)
            node = Reachability(service, target)
            await node.start()
            stack.push_async_callback(node.stop)
            application = Application(
                service,
                SignIns(data_folder(os.environ)),
                max_request=loaded.node.limits.request,
                is_ready=lambda: node.answers,
                hosts=settings.hosts,
                origins=settings.origins,
                incoming=stack.enter_context(passing_files(loaded.node.limits.request)),
            )
            stack.callback(application.stop)
            self._resources = stack.pop_all()
        return _believing(application, settings.proxies)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Answer a server's lifespan: start needs nothing, the end closes streams."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def aclose(self) -> None:
        """End streams, and let go of the node; on the loop on which it was opened."""
        if self._opened is not None:
            await asyncio.wait([self._opened[2]])
        await self._resources.aclose()


def _believing(application: Application, proxies: tuple[str, ...]) -> Any:
    asgi: Any = application  # uvicorn types messages more narrowly than ours
    return ProxyHeadersMiddleware(asgi, list(proxies)) if proxies else application


def _load() -> Loaded:
    file = Path(os.environ.get("REMOTERUN_CONFIG") or CONFIG_NAME)
    is_there = "REMOTERUN_CONFIG" in os.environ or file.exists()
    sections = {transport.name: transport.settings for transport in installed().values()}
    return load(flags={}, env=os.environ, file=file if is_there else None, sections=sections)


application = Lazy()
