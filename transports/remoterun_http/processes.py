"""HTTP in several processes: the node listens, and others answer on its sockets.

A process that dies is replaced; one that cannot start keeps the node from starting. `reload` replaces them one after
the other, each by one that answers before it goes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping

import msgspec

from remoterun.errors import Unavailable
from remoterun.local import local_url
from remoterun.logs import present
from remoterun.transport import ServerContext, ServerHalf
from remoterun_http import HttpSettings
from remoterun_http.console.signin import SignIns, invitation
from remoterun_http.listeners import hosts_of, listening, url
from remoterun_http.process import Terms, encode_terms

log = logging.getLogger("remoterun.http")

_START = 30.0  # seconds until a process answers
_PAUSE_FIRST, _PAUSE_MOST = 0.2, 10.0  # seconds between attempts to replace one that died
_GRACE = 10.0  # seconds for the requests of one that is replaced


class HttpProcesses(ServerHalf):
    """Processes that answer HTTP in front of this node."""

    def __init__(self, context: ServerContext, settings: HttpSettings) -> None:
        self._context = context
        self._settings = settings
        self._sockets: list[socket.socket] = []
        self._children: list[_Child] = []
        self._watching: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._page = ""

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        settings = self._settings
        is_clear_text_fine = bool(settings.cert) or self._context.insecure_listen
        listeners = await listening(settings.listen, in_clear_text=is_clear_text_fine)
        self._sockets = [each.bound for each in listeners]
        started = await asyncio.gather(*(self._new() for _ in range(settings.processes)), return_exceptions=True)
        self._children = [child for child in started if isinstance(child, _Child)]
        for failure in started:
            if isinstance(failure, BaseException):
                await self.stop(0)
                raise failure
        for child in self._children:
            self._watch(child)
        scheme = "https" if settings.cert else "http"
        urls = tuple(url(scheme, each) for each in listeners)
        self._page = await invitation(self._context, SignIns(self._context.data), urls[0])
        return {"http": urls}

    def welcome(self) -> Mapping[str, str]:
        return {"page": self._page} if self._page else {}

    async def stop(self, grace: float) -> None:
        self._stopping = True
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*(child.stop(grace + 1) for child in self._children))
        for each in self._sockets:
            each.close()

    async def reload(self) -> None:
        for old in list(self._children):
            new = await self._new()
            self._children.append(new)
            self._children.remove(old)
            self._watch(new)
            await old.stop(_GRACE)

    def certificates(self) -> Mapping[str, str]:
        return {"http": self._settings.cert} if self._settings.cert else {}

    async def _new(self) -> _Child:
        child = _Child(self._terms(), self._sockets)
        await child.answers()
        return child

    def _watch(self, child: _Child) -> None:
        task = asyncio.create_task(self._replace(child))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _replace(self, child: _Child) -> None:
        """Wait for the end of a process, and start another one unless it was to end."""
        code = await child.ended()
        if self._stopping or child not in self._children:
            return
        log.error("HTTP process %d ended with exit code %d and is replaced", child.pid, code)
        self._children.remove(child)
        pause = _PAUSE_FIRST
        while True:
            try:
                new = await self._new()
                break
            except Unavailable as error:
                log.error("no HTTP process instead: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _PAUSE_MOST)
        self._children.append(new)
        self._watch(new)

    def _terms(self) -> bytes:
        settings, context = self._settings, self._context
        adopted = msgspec.structs.replace(
            settings,
            processes=0,
            listen=tuple(f"fd:{each.fileno()}" for each in self._sockets),
            hosts=(*settings.hosts, *hosts_of(settings.listen)),
        )
        terms = Terms(
            url=context.url or local_url(context.data),
            data=str(context.data),
            settings=adopted,
            max_request=context.max_request,
            auth_timeout=context.auth_timeout,
            grace=_GRACE,
            insecure_listen=context.insecure_listen,
            log=present(),
        )
        return encode_terms(terms)


class _Child:
    """One process."""

    def __init__(self, terms: bytes, sockets: list[socket.socket]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "remoterun_http.process"],
            pass_fds=[each.fileno() for each in sockets],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the node, which then stops these in order
        )
        assert self._process.stdin is not None
        self._process.stdin.write(terms)
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def answers(self) -> None:
        """Wait until it answers.

        Raises:
            Unavailable: it ended, or takes too long.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_START):
                line = await asyncio.to_thread(self._process.stdout.readline)
        except TimeoutError as error:
            self._process.kill()
            raise Unavailable(f"an HTTP process does not answer within {_START:g} s") from error
        if not line:
            raise Unavailable(f"an HTTP process ended with exit code {await self.ended()} before it answered")

    async def ended(self) -> int:
        """Wait for its end, and give its exit code."""
        if self._process.returncode is not None:
            return self._process.returncode
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        pidfd = os.pidfd_open(self._process.pid)  # a thread that waits would be one of the loop's few
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        return self._process.wait()

    async def stop(self, patience: float) -> None:
        """Have it end its requests and stop; after `patience` seconds, at once."""
        self._process.terminate()
        try:
            async with asyncio.timeout(patience):
                await self.ended()
        except TimeoutError:
            self._process.kill()
            await self.ended()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
