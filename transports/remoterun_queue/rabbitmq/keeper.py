"""Keeps a connection in use: connects, and does it all again whenever that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from remoterun_queue.rabbitmq.backoff import Backoff
from remoterun_queue.rabbitmq.link import Link, Lost, Refused

logger = logging.getLogger(__name__)

_PRECONDITION_FAILED = 406


class Keeper(ABC):
    """Keeps a connection in use; a subclass says for what.

    Parameters:
        connect: opens a connection.
        what: it is for, with the address, for the log.
    """

    def __init__(self, connect: Callable[[], Awaitable[Link]], what: str) -> None:
        self._connect = connect
        self._what = what
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._told: set[str] = set()
        self.state = "not started"

    async def start(self, patience: float) -> None:
        """Begin, and wait up to `patience` seconds for the first attempt to come to something."""
        self._task = asyncio.ensure_future(self._keep())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), patience)

    async def stop(self) -> None:
        """Let go of the connection, and do not make it again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @abstractmethod
    async def use(self, link: Link) -> Awaitable[Lost]:
        """Put a fresh connection to use; give what completes once it is of use no longer.

        Raises:
            Lost: it cannot be used.
        """

    async def _keep(self) -> None:
        while True:
            try:
                await self._once()
            except Lost as lost:
                self._say(lost)
            except Exception:
                logger.exception("%s: a defect of remoterun; trying again", self._what)
            self._tried.set()
            await asyncio.sleep(self._backoff.next())

    async def _once(self) -> None:
        link = await self._connect()
        try:
            ended = await self.use(link)
            self.state = "up"
            logger.info("%s: up", self._what)
            self._backoff.reset()
            self._told.clear()
            self._tried.set()
            raise await ended
        finally:
            await link.close()

    def _say(self, lost: Lost) -> None:
        """Log what is wrong, each thing once until the connection is back."""
        self.state = f"down: {lost}{_advice(lost)}"
        if self.state not in self._told:
            logger.warning("%s: %s; trying again until it is back", self._what, self.state)
        self._told.add(self.state)


def _advice(lost: Lost) -> str:
    if not isinstance(lost, Refused) or lost.code != _PRECONDITION_FAILED:
        return ""
    if "inequivalent" in str(lost):
        return " (a queue or exchange of this name is there and is another: delete it, or choose another name)"
    return ""
