"""Consumes the queues of jobs and of calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

from remoterun_queue.rabbitmq.delivery import Delivery
from remoterun_queue.rabbitmq.keeper import Keeper
from remoterun_queue.rabbitmq.link import Lane, Link, Lost, OnMessage
from remoterun_queue.rabbitmq.topology import Topology

logger = logging.getLogger(__name__)

_CALLS: Final = 256  # calls that may be here unacknowledged at once

Make = Callable[[Lane, Basic.Deliver, BasicProperties, bytes, bool], Delivery]


class Consumer(Keeper):
    """Declares the queues and has their messages served, each queue on a channel of its own.

    Parameters:
        connect: opens a connection.
        what: it is for, with the address, for the log.
        topology: the queues.
        prefetch: messages with jobs that may be here unacknowledged at once.
        make: makes a delivery of a message, which may be a call.
        serve: takes a delivery; it returns at once.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Link]],
        what: str,
        *,
        topology: Topology,
        prefetch: int,
        make: Make,
        serve: Callable[[Delivery], None],
    ) -> None:
        super().__init__(connect, what)
        self._topology = topology
        self._prefetch = prefetch
        self._make = make
        self._serve = serve
        self._lanes: tuple[Lane, ...] = ()

    async def use(self, link: Link) -> Awaitable[Lost]:
        topology = self._topology
        jobs, calls = await link.lane(), await link.lane()
        await jobs.declare_queue(topology.dead, topology.dead_arguments())
        await jobs.declare_queue(topology.jobs, topology.job_arguments())
        await calls.declare_queue(topology.calls, topology.calls_arguments(), durable=False, auto_delete=True)
        await jobs.consume(topology.jobs, self._prefetch, self._receiver(jobs, is_call=False))
        await calls.consume(topology.calls, _CALLS, self._receiver(calls, is_call=True))
        self._lanes = (jobs, calls)
        return _first(jobs.closed, calls.closed)

    def quiesce(self) -> None:
        """Have nothing more delivered; what was can still be acknowledged."""
        for lane in self._lanes:
            with contextlib.suppress(AMQPError):
                for tag in lane.channel.consumer_tags:
                    lane.channel.basic_cancel(tag)

    def _receiver(self, lane: Lane, is_call: bool) -> OnMessage:
        def receive(method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            try:
                self._serve(self._make(lane, method, properties, body, is_call))
            except Exception:  # what leaves here would cost the connection, and every message that is on it
                logger.exception("%s: a message was not served", self._what)

        return receive


async def _first(*closed: asyncio.Future[Lost]) -> Lost:
    done, _ = await asyncio.wait(closed, return_when=asyncio.FIRST_COMPLETED)
    return done.pop().result()
