"""A link as the node's loop sees it: what the link's threads hear enters the loop here, and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress

from remoterun.errors import RemoterunError
from remoterun_queue.activemq.address import Address
from remoterun_queue.activemq.link import Complaint, Ended, Heard, Link, Message, Receipt

logger = logging.getLogger(__name__)


class LinkLost(RemoterunError):
    """The connection is gone, and with it the knowledge of what became of what was sent last."""


class Refused(RemoterunError):
    """The broker does not do what it was asked; the text is its reason."""


class Bridge:
    """A link of the loop's.

    Parameters:
        received: is given each message, on the loop.
        timeout: seconds for opening.
        heartbeat: seconds between two signs of life.
    """

    def __init__(
        self, address: Address, received: Callable[[Bridge, Message], None], *, timeout: float, heartbeat: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._received = received
        self._receipts: dict[str, asyncio.Future[None]] = {}
        self._link = Link(address, self._enter, timeout=timeout, heartbeat=heartbeat)
        self.ended: asyncio.Future[str] = self._loop.create_future()  # the reason, once the connection is gone

    async def open(self) -> None:
        """Connect.

        Raises:
            Unavailable: there is no broker, or it does not want us.
        """
        opened: asyncio.Future[None] = self._loop.create_future()

        def open_and_tell() -> None:
            try:
                self._link.open()
            except Exception as error:
                self._call(_resolve, opened, error)
            else:
                self._call(_resolve, opened, None)

        # A thread of its own: a node that stops meanwhile does not wait for it.
        threading.Thread(target=open_and_tell, name="remoterun-stomp-open", daemon=True).start()
        await opened

    async def close(self) -> None:
        """Leave once the broker has taken everything that was sent."""
        await asyncio.to_thread(self._link.close)

    async def subscribe(self, queue_name: str, prefetch: int) -> None:
        """Have a queue's messages delivered, each to be acknowledged by itself.

        Raises:
            LinkLost, Refused: as they say.
        """
        receipt, done = self._expect()
        headers = {"activemq.prefetchSize": str(prefetch), "receipt": receipt}
        self._link.subscribe(queue_name, headers, ack="client-individual")
        await done

    async def send(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a message; it is the broker's once this returns.

        Raises:
            LinkLost, Refused: as they say.
        """
        receipt, done = self._expect()
        self._link.send(destination, body, {**headers, "receipt": receipt})
        await done

    def ack(self, delivery: str) -> None:
        """Have a message not delivered again.

        Raises:
            LinkLost: it will be.
        """
        if self.ended.done():
            raise LinkLost(self.ended.result())
        self._link.ack(delivery)

    def _expect(self) -> tuple[str, asyncio.Future[None]]:
        if self.ended.done():
            raise LinkLost(self.ended.result())
        receipt = uuid.uuid4().hex
        done = self._receipts[receipt] = self._loop.create_future()
        done.add_done_callback(lambda _: self._receipts.pop(receipt, None))
        return receipt, done

    def _enter(self, link: Link, heard: Heard) -> None:
        self._call(self._hear, heard)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there to be told
            self._loop.call_soon_threadsafe(function, *arguments)

    def _hear(self, heard: Heard) -> None:
        if isinstance(heard, Message):
            self._received(self, heard)
        elif isinstance(heard, Receipt):
            self._settle(heard.id, None)
        elif isinstance(heard, Complaint):
            if not self._settle(heard.id, Refused(heard.reason)):
                logger.warning("%s complains: %s", self._address, heard.reason)
        elif isinstance(heard, Ended):
            self.ended.set_result(heard.reason)
            for receipt in list(self._receipts):
                self._settle(receipt, LinkLost(heard.reason))

    def _settle(self, receipt: str | None, error: RemoterunError | None) -> bool:
        done = self._receipts.get(receipt or "")
        if done is None or done.done():
            return False
        _resolve(done, error)
        return True


def _resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # whoever waited has gone
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
