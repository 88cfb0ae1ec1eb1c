"""Events of jobs, published to a topic exchange for whoever listens."""

from __future__ import annotations

import asyncio
import logging

from pika.spec import BasicProperties

from remoterun.errors import ServiceError
from remoterun.messages import Job, OutputEvent, encode
from remoterun.service import AsyncSession
from remoterun_queue.rabbitmq.delivery import JSON, PERSISTENT
from remoterun_queue.rabbitmq.link import Lost
from remoterun_queue.rabbitmq.publisher import Publisher
from remoterun_queue.rabbitmq.topology import event_key

logger = logging.getLogger(__name__)

_MOST = 10_000  # jobs followed at once, and remembered


class EventPublisher:
    """Follows jobs and publishes what happens to them: `state`, `progress`, `artifact`.

    Output is left out: it may be megabytes that nobody listens to, and a call away by the job's id.
    """

    def __init__(self, publisher: Publisher, exchange: str) -> None:
        self._publisher = publisher
        self._exchange = exchange
        self._following: dict[str, asyncio.Task[None]] = {}

    def follow(self, session: AsyncSession, job: Job) -> None:
        """Publish a job's events, as far as its principal may read them; a job that is followed stays so."""
        if job.id in self._following or len(self._following) >= _MOST:
            return
        task = asyncio.ensure_future(self._follow(session, job))
        self._following[job.id] = task
        task.add_done_callback(lambda _: self._following.pop(job.id, None))

    async def stop(self) -> None:
        """Follow nothing any more."""
        tasks = list(self._following.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, session: AsyncSession, job: Job) -> None:
        try:
            async for event in session.events(job.id):
                if isinstance(event, OutputEvent):
                    continue
                kind = str(event.__struct_config__.tag)
                properties = BasicProperties(
                    content_type=JSON,
                    delivery_mode=PERSISTENT,
                    type=kind,
                    message_id=f"{job.id}:{event.n}",
                    headers={"script": job.script, "principal": job.principal},
                )
                key = event_key(job.script, kind)
                await self._publisher.publish(self._exchange, key, encode(event), properties, mandatory=False)
        except (ServiceError, Lost) as error:
            logger.warning("events of job %s are published no further: %s", job.id, error)
        except Exception:
            logger.exception("events of job %s", job.id)
