"""A process that serves until it is told to stop: signals, the ready file, what is said at start and end.

Whoever supervises it is told the same, see `supervised`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from remoterun import adopting, orphans
from remoterun.access import write_private
from remoterun.errors import RemoterunError
from remoterun.logs import Log, say, set_up
from remoterun.supervised import Supervisor

logger = logging.getLogger(__name__)

FAILED = 125  # exit code: it could not start, as for every failure that is ours

_COLLECT = (10_000, 20, 20)  # objects and rounds between collections: calls make much, and no cycles


class Server(ABC):
    """What is served: a node, or a gateway to one."""

    addresses: Mapping[str, tuple[str, ...]]  # what each transport took, once started

    @abstractmethod
    async def start(self) -> None:
        """Start everything, transports last.

        Raises:
            RemoterunError: with what to do about it.
            OSError: an address cannot be had.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Stop in order; also after a start that failed halfway."""

    @abstractmethod
    def announcement(self) -> str:
        """Say where it can be reached, and how to call it."""

    async def reload(self) -> None:  # noqa: B027 - what has nothing to start anew
        """Start anew what can be, without a gap in service (SIGHUP)."""

    def status(self) -> str:
        """Say in a line what this is."""
        return self.announcement().partition("\n")[0]

    def ready_value(self) -> dict[str, Any]:
        """Give what the ready file says."""
        return {"pid": os.getpid(), **self.addresses}


def serve_until_stopped(make: Callable[[], Server], log: Log, ready_file: Path | None = None) -> int:
    """Serve until a signal tells to stop; give the exit code.

    Parameters:
        make: makes what is served.
        log: what the log on stderr holds, and in which form.
        ready_file: where the addresses are written once every transport answers.
    """
    set_up(log)
    adopting.take_over(os.environ)
    supervisor = Supervisor.from_environment(os.environ)
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        return runner.run(_serve(make(), ready_file, supervisor))


async def _serve(server: Server, ready_file: Path | None, supervisor: Supervisor) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_requested, stop)
    reloading: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGHUP, _reload_requested, server, reloading, supervisor)
    supervisor.watch()
    reaping = asyncio.create_task(orphans.reap(), name="remoterun-orphans") if orphans.is_first() else None
    try:
        await server.start()
    except (RemoterunError, OSError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        say(f"remoterun: {reason}", sys.stderr, logging.ERROR)
        await server.stop()
        return FAILED
    for name in adopting.left_over():
        logger.warning('nothing listens on the socket %s that was handed over; set listen = ["fd:%s"]', name, name)
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it again
    gc.set_threshold(*_COLLECT)
    if ready_file is not None:
        write_private(ready_file, json.dumps(server.ready_value()).encode() + b"\n")
    say(server.announcement(), sys.stdout)
    supervisor.ready(server.status())
    await stop.wait()
    supervisor.stopping()
    if reaping is not None:
        reaping.cancel()
    say("remoterun: stopping", sys.stderr)
    await server.stop()
    if ready_file is not None:
        with contextlib.suppress(OSError):
            os.unlink(ready_file)  # noqa: PTH108 - as quick as it gets, on the way out
    return 0


def _reload_requested(server: Server, reloading: set[asyncio.Task[None]], supervisor: Supervisor) -> None:
    """Reload; asked while that goes on, once."""
    if not reloading:
        task = asyncio.ensure_future(_reload(server, supervisor))
        reloading.add(task)
        task.add_done_callback(reloading.discard)


async def _reload(server: Server, supervisor: Supervisor) -> None:
    supervisor.reloading()
    try:
        await server.reload()
    except (RemoterunError, OSError) as error:
        logger.error("not reloaded: %s", error)
        supervisor.ready(f"not reloaded: {error}".replace("\n", " "))
    else:
        logger.info("reloaded")
        supervisor.ready(server.status())


def _stop_requested(stop: asyncio.Event) -> None:
    """Stop; asked twice, at once: jobs are killed by their fork servers."""
    if stop.is_set():
        os._exit(130)
    stop.set()
