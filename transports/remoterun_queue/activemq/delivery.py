"""One message that ActiveMQ delivered, and the way back to who sent it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from remoterun.errors import ServiceError
from remoterun_queue.activemq import headers
from remoterun_queue.activemq.attempts import Attempts
from remoterun_queue.activemq.bridge import Bridge, LinkLost, Refused
from remoterun_queue.activemq.link import Message
from remoterun_queue.activemq.outlet import Outlet
from remoterun_queue.exchange import Exchange, Gone

logger = logging.getLogger(__name__)

_RETRY_FIRST, _RETRY_MOST = 1.0, 60.0  # seconds between attempts to put a message aside where the broker refuses it
_REPLY_TO: Final = "reply-to"


class Delivery(Exchange):
    """A message, acknowledged on the connection that it came by and answered over another.

    Parameters:
        dead: the queue of refused messages.
        attempts: forgets the message once it is settled.
    """

    def __init__(self, message: Message, inlet: Bridge, outlet: Outlet, dead: str, attempts: Attempts) -> None:
        reader = message.headers.get(_REPLY_TO) or None
        super().__init__(reader, peer=reader or "")  # where answers go is all that STOMP tells of a sender
        self._message = message
        self._inlet = inlet
        self._outlet = outlet
        self._dead = dead
        self._attempts = attempts

    @property
    def message_id(self) -> str:
        """The broker's id of the message, the same at every delivery."""
        return self._message.headers.get("message-id", "")

    @property
    def is_gone(self) -> bool:
        return self._inlet.ended.done()

    async def _accept(self) -> None:
        try:
            self._inlet.ack(self._message.headers["ack"])
        except LinkLost as lost:
            raise Gone(f"the message was not acknowledged: {lost}") from lost
        self._attempts.settle(self.message_id)

    async def _refuse(self, error: ServiceError) -> None:
        """Put it aside, then acknowledge it: a NACK would lose the reason.

        Where the connection breaks in between, the message comes again and is put aside twice: better than never.
        """
        await self._put_aside(error)
        await self._accept()

    async def _put_aside(self, error: ServiceError) -> None:
        pause = _RETRY_FIRST
        while not self.is_gone:
            try:
                made = headers.of_dead(self._message.headers, error)
                return await self._outlet.send_now(self._dead, self._message.body, made)
            except LinkLost as lost:
                raise Gone(f"the message was not put aside: {lost}") from lost
            except Refused as refused:
                logger.error(
                    "%s takes no refused message, which so stays where it is: %s; it was refused because %s",
                    self._dead,
                    refused,
                    error.message,
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, _RETRY_MOST)
        raise Gone("the message was not put aside: its connection is lost")

    async def answer(self, body: bytes) -> None:
        assert isinstance(self.reader, str)
        try:
            await self._outlet.send(self.reader, body, headers.of_answer(self._message.headers))
        except Refused as refused:
            raise Gone(f"{self.reader} takes no answer: {refused}") from refused
