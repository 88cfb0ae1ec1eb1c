"""Calls of a caller's callbacks, with a bound on what it has not answered."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, Final

from remoterun.errors import Invalid, Unavailable
from remoterun_rpc import protocol
from remoterun_rpc.protocol import Handler, Reference

_OVERHEAD: Final = 256  # bytes that a call costs both sides besides what it carries


class Stalled(Unavailable):
    """A caller answered nothing for too long."""


class Deliveries:
    """What was sent to the callbacks of one connection's caller.

    Parameters:
        transport: where calls are written.
        unread: bytes of calls that may be unanswered, before further ones wait.
        stall: seconds for which they wait.
    """

    def __init__(self, transport: Any, unread: int, stall: float) -> None:
        self._transport = transport
        self._unread = unread
        self._stall = stall
        self._numbers = count(1)
        self._pending: dict[int, tuple[Delivery, int]] = {}
        self._size = 0  # bytes of what is pending
        self._answered = asyncio.Event()

    async def room(self, size: int) -> None:
        """Wait until a call of this size may be sent; one alone always may.

        Raises:
            Stalled: no answer came for too long.
        """
        while self._size and self._size + size > self._unread:
            self._answered.clear()
            try:
                await asyncio.wait_for(self._answered.wait(), self._stall)
            except TimeoutError:
                raise Stalled(f"the callback has answered nothing for {self._stall:g} s") from None

    def call(self, delivery: Delivery, piece: str | bytes) -> None:
        """Call a callback with a piece."""
        number = next(self._numbers)
        frame = protocol.request(number, Handler.CALL, delivery.callback, (piece,), ())
        self._pending[number] = delivery, len(frame) + _OVERHEAD
        self._size += len(frame) + _OVERHEAD
        self._write(frame)

    def let_go(self, reference: Reference) -> None:
        """Tell the caller that an object of its is not needed any more; RPyC holds it until then."""
        self._write(protocol.request(next(self._numbers), Handler.DEL, reference, 1))

    def _write(self, frame: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame)

    def answer(self, number: int, failed: bool) -> bool:
        """Take the answer to a call; False where there was no such call."""
        pending = self._pending.pop(number, None)
        if pending is None:
            return False
        delivery, size = pending
        self._size -= size
        delivery.answered(failed)
        self._answered.set()
        return True


class Delivery:
    """Calls of one callback."""

    def __init__(self, deliveries: Deliveries, callback: Reference) -> None:
        self.callback = callback
        self._deliveries = deliveries
        self._sent = 0
        self._left = 0  # calls that wait for their answers
        self._failed = False
        self._done = asyncio.Event()

    async def send(self, piece: str | bytes) -> None:
        """Call the callback, once there is room.

        Raises:
            Stalled: no answer came for too long.
            Invalid: an earlier call raised.
        """
        await self._deliveries.room(len(piece) + _OVERHEAD)
        self._check()
        self._left += 1
        self._sent += 1
        self._deliveries.call(self, piece)

    async def settled(self) -> None:
        """Wait until every call was answered.

        Raises:
            Invalid: one of them raised.
        """
        while self._left:
            self._done.clear()
            await self._done.wait()
        self._check()

    def answered(self, failed: bool) -> None:
        """Take one answer."""
        self._left -= 1
        self._failed = self._failed or failed
        self._done.set()

    def _check(self) -> None:
        if self._failed:
            raise Invalid(f"the callback raised at one of the first {self._sent} pieces; it is called no more")
