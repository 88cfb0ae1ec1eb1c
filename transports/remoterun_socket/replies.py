"""The replies of one connection, in the order of their commands.

Each command has a slot in a queue. What is ready at the queue's head is written, in one write for each turn of the
loop; a stream begins once it is at the head.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import aclosing
from typing import Any, Protocol

from remoterun.errors import Internal, ServiceError, Unavailable
from remoterun_socket.answers import Stream

log = logging.getLogger(__name__)


class Slot:
    """The place of one command's reply."""

    __slots__ = ("reply", "stream", "task")

    def __init__(self) -> None:
        self.reply: bytes | None = None
        self.stream: Stream | None = None
        self.task: asyncio.Future[Any] | None = None  # cancelled when nobody waits for the reply any more


class Owner(Protocol):
    """What the queue tells its connection."""

    def proceed(self) -> None:
        """There may be room for more commands."""

    def refused(self, failure: ServiceError) -> None:
        """A stream ended with this."""

    def end(self) -> None:
        """No further command shall be started."""


class Stalled(Unavailable):
    """A reader took nothing for too long."""


class Replies:
    """The queue of slots of one connection.

    Parameters:
        stall: seconds for which a reader may take nothing while its write buffer is full.
    """

    __slots__ = (
        "_due",
        "_loop",
        "_owner",
        "_pump",
        "_room",
        "_stall",
        "_stopping",
        "_transport",
        "_watch",
        "held",
        "lost",
        "slots",
        "writable",
    )

    def __init__(self, owner: Owner, transport: Any, stall: float, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._transport = transport
        self._stall = stall
        self._loop = loop
        self.slots: deque[Slot] = deque()
        self.held = 0  # bytes that are ready and wait for their turn
        self.writable = True  # whether the transport's buffer has room
        self.lost = False  # whether the connection has gone
        self._due = False  # a flush is scheduled
        self._pump: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None  # what the pump waits for
        self._watch: asyncio.TimerHandle | None = None
        self._stopping = False

    def add(self) -> Slot:
        """Give the next command its place."""
        slot = Slot()
        self.slots.append(slot)
        return slot

    def fill(self, slot: Slot, reply: bytes) -> None:
        """Take a reply; it is written when every earlier one was."""
        if self.lost:
            return
        slot.reply = reply
        slot.task = None
        self.held += len(reply)
        self._wake(slot)

    def stream(self, slot: Slot, stream: Stream) -> None:
        """Take a reply in pieces."""
        slot.stream = stream
        self._wake(slot)

    def pause(self) -> None:
        """The transport's buffer is full."""
        self.writable = False
        self._watch = self._loop.call_later(self._stall, self._check, self._transport.get_write_buffer_size())

    def resume(self) -> None:
        """The transport's buffer has room again."""
        self.writable = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def stop_streams(self) -> None:
        """End the stream under way, and those to come, with an error that says from where to resume."""
        self._stopping = True
        if self._pump is not None:
            self._pump.cancel()

    def lose(self) -> None:
        """The connection has gone: drop what nobody will read."""
        self.lost = True
        if self._watch is not None:
            self._watch.cancel()
        if self._pump is not None:
            self._pump.cancel()
        for slot in self.slots:
            if slot.task is not None:
                slot.task.cancel()
        self.slots.clear()

    def _wake(self, slot: Slot) -> None:
        if not self._due and self.slots[0] is slot:
            self._due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        ready: list[bytes] = []
        slots = self.slots
        while slots:
            slot = slots[0]
            if slot.reply is None:
                if slot.stream is not None and self._pump is None:
                    self._pump = self._loop.create_task(self._send(slot, slot.stream))
                break
            ready.append(slot.reply)
            slots.popleft()
        if ready:
            data = ready[0] if len(ready) == 1 else b"".join(ready)
            self.held -= len(data)
            if data:
                self._transport.write(data)
        self._owner.proceed()

    async def _send(self, slot: Slot, stream: Stream) -> None:
        last: bytes | None = b""
        try:
            if self._stopping:
                raise asyncio.CancelledError
            async with aclosing(stream.pieces()) as pieces:
                async for piece in pieces:
                    self._transport.write(piece)
                    if not self.writable:
                        await self._wait_for_room()
        except asyncio.CancelledError:
            if self.lost:
                raise
            last = stream.broken(Unavailable("the node is stopping"))
        except ServiceError as failure:
            self._owner.refused(failure)
            last = stream.broken(failure)
            if isinstance(failure, Stalled):
                self._owner.end()
        except Exception:
            log.exception("a stream failed")
            last = stream.broken(Internal("a defect of remoterun; the node's log says more"))
        self._pump = None
        if last is None:
            self._transport.abort()
        else:
            self.fill(slot, last)

    async def _wait_for_room(self) -> None:
        self._room = self._loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    def _check(self, before: int) -> None:
        """Cut off a reader that took nothing since the last look."""
        size = self._transport.get_write_buffer_size()
        if size < before:
            self._watch = self._loop.call_later(self._stall, self._check, size)
        elif self._room is not None and not self._room.done():
            self._room.set_exception(Stalled(f"nothing was read for {self._stall:g} s while {size} bytes waited"))
        else:
            self._transport.abort()
