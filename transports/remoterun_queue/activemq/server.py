"""The server half: takes jobs from a broker's queue, for as long as there is a broker, and again when there is."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from remoterun.errors import Internal, Invalid, RemoterunError, Unavailable
from remoterun.transport import ServerContext, ServerHalf
from remoterun_queue.activemq import headers
from remoterun_queue.activemq.address import Address, parse_url
from remoterun_queue.activemq.attempts import Attempts
from remoterun_queue.activemq.bridge import Bridge
from remoterun_queue.activemq.delivery import Delivery
from remoterun_queue.activemq.link import Message
from remoterun_queue.activemq.outlet import Outlet
from remoterun_queue.answering import Answering

if TYPE_CHECKING:
    from remoterun_queue.activemq import ActiveMQSettings

logger = logging.getLogger(__name__)

CONNECT: Final = 5.0  # seconds for connecting, and for the node's start to wait for that
_PAUSE_FIRST, _PAUSE_MOST = 0.1, 5.0  # seconds between attempts to connect
_LASTING = 1.0  # seconds after which a connection that breaks was a good one


class ActiveMQServer(ServerHalf):
    """Jobs from a queue, answers to where they are asked for, refused messages to a queue of their own.

    Two connections: a broker that has no room for what is sent to it stops reading that one, and acknowledgements,
    which make room, must not wait behind.
    """

    def __init__(self, context: ServerContext, settings: ActiveMQSettings) -> None:
        self._context = context
        self._settings = settings
        self._answering = Answering(
            context.service, "activemq", principal=settings.principal, largest=context.max_request
        )
        self._attempts = Attempts(context.data / "activemq.attempts")
        self._outlet = Outlet()
        self._keeping: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._is_stopping = False
        self._said = ""
        self._serving_since = float("inf")

    async def start(self) -> Mapping[str, tuple[str, ...]]:
        address = _address(self._settings)
        self._keeping = asyncio.ensure_future(self._keep(address))
        await self._tried.wait()
        return {"activemq": (address.url,)}

    async def stop(self, grace: float) -> None:
        if self._keeping is None:
            return
        self._is_stopping = True
        await self._answering.stop(grace)
        self._attempts.forgive()
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)

    def brokers(self) -> Mapping[str, str]:
        if self._keeping is None:
            return {}
        state = f"down: {self._said}" if self._said else "up"
        return {"activemq": state if self._tried.is_set() else "not reached yet"}

    async def _keep(self, address: Address) -> None:
        """Be connected, again and again."""
        loop = asyncio.get_running_loop()
        pause = _PAUSE_FIRST
        while True:
            self._serving_since = float("inf")
            try:
                reason = await self._live(address)
            except RemoterunError as error:
                reason = str(error)
            except Exception as error:
                logger.exception("[activemq] a defect")
                reason = f"a defect of remoterun: {type(error).__name__}"
            self._tried.set()
            self._say(reason)
            if loop.time() - self._serving_since > _LASTING:
                pause = _PAUSE_FIRST
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # not all nodes at once
            pause = min(2 * pause, _PAUSE_MOST)

    async def _live(self, address: Address) -> str:
        """Connect and serve until a connection breaks; give the reason."""
        inlet, outlet = self._bridge(address), self._bridge(address)
        try:
            await outlet.open()
            await inlet.open()
            self._outlet.opened(outlet)
            await inlet.subscribe(self._settings.queue, self._settings.prefetch)
            self._serving_since = asyncio.get_running_loop().time()
            self._say("")
            logger.info("taking jobs from %s at %s", self._settings.queue, address)
            self._tried.set()
            await asyncio.wait([inlet.ended, outlet.ended], return_when=asyncio.FIRST_COMPLETED)
            return f"{address}: {(inlet.ended if inlet.ended.done() else outlet.ended).result()}"
        finally:
            self._outlet.closed()
            await asyncio.gather(inlet.close(), outlet.close())

    def _bridge(self, address: Address) -> Bridge:
        return Bridge(address, self._received, timeout=CONNECT, heartbeat=self._settings.heartbeat)

    def _received(self, inlet: Bridge, message: Message) -> None:
        if self._is_stopping:
            return  # it is not acknowledged, so the broker keeps it
        delivery = Delivery(message, inlet, self._outlet, self._settings.dead, self._attempts)
        if headers.was_delivered_before(message.headers):
            lives = self._attempts.begin(delivery.message_id)
            if lives > self._settings.attempts:
                self._answering.put_aside(
                    delivery, Internal(f"{lives - 1} nodes and more have ended before they had settled this message")
                )
                return
        self._answering.start(
            delivery, message.body, key=headers.key_of(message.headers), trace=message.headers.get("traceparent")
        )

    def _say(self, reason: str) -> None:
        """Log what is wrong, once."""
        if reason and reason != self._said:
            logger.warning("[activemq] %s; trying again", reason)
        self._said = reason


def _address(settings: ActiveMQSettings) -> Address:
    """Put together what the settings say.

    Raises:
        Unavailable: the url is none.
    """
    try:
        address = parse_url(settings.url)
    except Invalid as error:
        raise Unavailable(f"[activemq] url: {error.message}") from error
    return msgspec.structs.replace(
        address,
        queue=settings.queue,
        login=settings.login or address.login,
        passcode=settings.passcode or address.passcode,
        ca=settings.ca or None,
        cert=settings.cert or None,
        key=settings.key or None,
    )
