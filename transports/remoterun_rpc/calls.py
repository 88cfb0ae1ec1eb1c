"""The calls under way on one connection, and the way from each to its answer.

Calls run side by side, and each is answered when it is done. Nothing here makes a task for a call that the service
answers with a future.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from remoterun.errors import Internal, JobFailed, ServiceError, Unavailable
from remoterun.service import AsyncSession
from remoterun_rpc import failures, protocol
from remoterun_rpc.delivery import Deliveries, Delivery, Stalled
from remoterun_rpc.methods import Later
from remoterun_rpc.protocol import Unboxed
from remoterun_rpc.streams import Stream

log = logging.getLogger(__name__)


class Owner(Protocol):
    """What the calls tell their connection."""

    def write(self, frame: bytes) -> None:
        """Send a frame."""

    def refused(self, failure: ServiceError) -> None:
        """A call was refused with this."""

    def answered(self) -> None:
        """A call was answered, and is under way no more."""

    def cut_off(self) -> None:
        """The caller takes nothing: it shall be gone once it was told so."""


class _Call:
    """A call under way.

    `task` is what is cancelled when nobody waits for the answer any more; None where it goes on.
    """

    __slots__ = ("number", "stream", "task")

    def __init__(self, number: int, stream: Stream | None = None) -> None:
        self.number = number  # the caller's
        self.stream = stream
        self.task: asyncio.Future[Any] | None = None


class Calls:
    """The calls under way.

    Parameters:
        keep: holds what goes on though its caller may go.
    """

    def __init__(self, owner: Owner, deliveries: Deliveries, keep: Callable[[asyncio.Future[Any]], None]) -> None:
        self._owner = owner
        self._deliveries = deliveries
        self._keep = keep
        self._under_way: set[_Call] = set()
        self._lost = False  # the connection has gone
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._under_way)

    def await_later(self, number: int, later: Later, session: AsyncSession | None) -> None:
        """Answer a call once its value is there."""
        call = _Call(number)
        self._under_way.add(call)
        future = asyncio.ensure_future(later.awaitable)
        future.add_done_callback(partial(self._ended, call, later, session))
        if future is later.awaitable:  # the service's own future: it keeps it, and it alone cancels it
            return
        if later.acts:
            self._keep(future)
        else:
            call.task = future

    def stream(self, number: int, stream: Stream) -> None:
        """Deliver pieces to a callback, and answer the call then."""
        call = _Call(number, stream)
        self._under_way.add(call)
        call.task = self._loop.create_task(self._deliver(stream))
        call.task.add_done_callback(partial(self._streamed, call, stream))

    def stop_streams(self) -> None:
        """End the streams under way with an error that says from where to resume."""
        for call in self._under_way:
            if call.stream is not None and call.task is not None:
                call.task.cancel()

    def lose(self) -> None:
        """The connection has gone: drop what nobody waits for."""
        self._lost = True
        for call in self._under_way:
            if call.task is not None:
                call.task.cancel()
        self._under_way.clear()

    def refusal(self, number: int, failure: BaseException) -> bytes:
        """Encode what a call raises at its caller's."""
        if isinstance(failure, JobFailed):
            return protocol.exception(number, failures.job_failed(failure.job))
        error = _as_error(failure)
        self._owner.refused(error)
        return protocol.exception(number, failures.refused(error))

    def _ended(self, call: _Call, later: Later, session: AsyncSession | None, future: asyncio.Future[Any]) -> None:
        if self._lost:
            if not future.cancelled():
                future.exception()  # seen: asyncio would complain of an error that nobody looked at
            return
        try:
            value = later.tell(session, future.result())
        except (Exception, asyncio.CancelledError) as failure:
            self._end(call, self.refusal(call.number, failure))
            return
        if isinstance(value, Coroutine):
            call.task = self._loop.create_task(value)
            call.task.add_done_callback(partial(self._told, call))
        else:
            self._end(call, protocol.reply(call.number, value))

    def _told(self, call: _Call, task: asyncio.Future[Unboxed]) -> None:
        if self._lost:
            return
        try:
            frame = protocol.reply(call.number, task.result())
        except (Exception, asyncio.CancelledError) as failure:
            frame = self.refusal(call.number, failure)
        self._end(call, frame)

    async def _deliver(self, stream: Stream) -> Unboxed:
        delivery = Delivery(self._deliveries, stream.callback)
        answer = await stream.deliver(delivery.send)
        await delivery.settled()
        return answer

    def _streamed(self, call: _Call, stream: Stream, task: asyncio.Future[Unboxed]) -> None:
        if self._lost:
            if not task.cancelled():
                task.exception()
            return
        self._deliveries.let_go(stream.callback)
        try:
            frame = protocol.reply(call.number, task.result())
        except (Exception, asyncio.CancelledError) as failure:
            error = _as_error(failure)
            self._end(call, self.refusal(call.number, stream.broken(error)))
            if isinstance(error, Stalled):
                self._owner.cut_off()
        else:
            self._end(call, frame)

    def _end(self, call: _Call, frame: bytes) -> None:
        self._under_way.discard(call)
        self._owner.write(frame)
        self._owner.answered()


def _as_error(failure: BaseException) -> ServiceError:
    """Give the error that a caller is told."""
    if isinstance(failure, ServiceError):
        return failure
    if isinstance(failure, asyncio.CancelledError):
        return Unavailable("the node is stopping")
    log.error("a call failed", exc_info=failure)
    return Internal("a defect of remoterun; the node's log says more")
