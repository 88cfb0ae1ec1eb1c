"""The store on SQLite: gathers writes on the event loop's thread, hands groups to the thread that owns the file."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs
from sqlalchemy import Connection

from remoterun.errors import Internal, ServiceError, Unavailable
from remoterun.measures import StoreMeasures
from remoterun.messages import Event, Job, JobPage, JobQuery, Refusal
from remoterun.store import queries
from remoterun.store.interface import Bounds, Extra, Record, Store
from remoterun.store.owner import Ask, Copy, Outcome, Owner, Ready, Unit, driver_of, transaction, unavailable
from remoterun.store.pending import Pending, Steps
from remoterun.store.records import encode_steps

T = TypeVar("T")

log = logging.getLogger("remoterun.store")

_GATHER = 0.02  # seconds that a write which nobody awaits may wait for company
_GATHER_JOBS = 1000  # or until there are so many
_BACKOFF = (0.1, 1.0)  # seconds between attempts while the disk fails: first, most
_CROWDED = 2000  # jobs of the next group at which whoever writes more is held up
_HOLD_UP = 0.0001  # seconds
_SEARCH_STEPS = 25  # of a search before it answers with what it found, about 0.1 s
_REFUSALS_HELD = 10_000  # in memory; a flood of refused calls is not worth more


class SqliteStore(Store):
    """Keep jobs in one SQLite file.

    One unit of work is with the owner thread at a time; what comes meanwhile gathers into the next.

    Parameters:
        path: the database's file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.measures = StoreMeasures()
        self._path = path
        self._owner = Owner(path, self._report)
        self._pending = Pending()
        self._asks: list[Ask] = []
        self._away = 0  # jobs in the unit that the owner has
        self._busy = False  # the owner has a unit
        self._armed = False  # something will flush: a timer, a retry, the end of a unit
        self._urgent = False  # somebody waits for the next unit
        self._timer: asyncio.TimerHandle | None = None
        self._fault: str | None = None
        self._backoff = _BACKOFF[0]
        self._closed = False
        self._idle: asyncio.Future[None] | None = None  # `close` waits here
        self._loop: asyncio.AbstractEventLoop

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()

        def settle(error: Exception | None) -> None:
            if error is None:
                _resolve(opened, None)
            else:
                _reject(opened, error)

        self._owner.start(lambda error: self._call(partial(settle, error)))
        await opened

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._idle = self._loop.create_future()
        self._fault = None  # one more attempt, whatever the last one said
        self._flush()
        if self._busy:
            await self._idle
        self._busy = True  # the owner takes nothing more
        await asyncio.to_thread(self._owner.stop)
        if self._pending.jobs:
            log.error("closed with %d jobs that could not be written: %s", len(self._pending.jobs), self._fault)

    @property
    def fault(self) -> str | None:
        return self._fault

    @property
    def backlog(self) -> int:
        return len(self._pending.jobs) + self._away

    def write(self, job: Job, extra: Extra | None, events: Sequence[Event]) -> None:
        pending = self._pending
        pending.add(job, extra, events)
        if not self._armed:
            self._arm(_GATHER)
        if len(pending.jobs) >= _GATHER_JOBS:
            if not self._urgent:
                self._hurry()
            if len(pending.jobs) > _CROWDED:
                # The owner is behind, and gets neither core nor interpreter from a loop that never rests.
                time.sleep(_HOLD_UP)

    def durable(self, job: Job, extra: Extra | None, events: Sequence[Event]) -> asyncio.Future[None]:
        waiter = self._loop.create_future()
        if self._closed:
            waiter.set_exception(Unavailable("the node is stopping; try again once it is back", retry_after=5.0))
            return waiter
        self._pending.add_durable(job, extra, events, waiter)
        if not self._urgent:
            self._hurry()
        return waiter

    async def get(self, job_id: str) -> Record | None:
        return await self._ask(lambda connection: queries.get(connection, job_id))

    async def find_key(self, principal: str, key: str, since: datetime) -> Record | None:
        return await self._ask(lambda connection: queries.find_key(connection, principal, key, since))

    async def unfinished(self) -> list[Record]:
        return await self._ask(queries.unfinished)

    async def list_jobs(self, query: JobQuery, principal: str | None) -> list[Job]:
        found: list[Job] = []
        rest = query
        while True:
            step = await self._ask(partial(queries.scan_jobs, query=rest, principal=principal))
            found += step.jobs
            if len(found) >= query.limit or step.resume is None:
                return found
            rest = structs.replace(rest, before=step.resume, limit=query.limit - len(found))

    async def search_jobs(self, query: JobQuery, principal: str | None) -> JobPage:
        found: list[Job] = []
        rest = query
        for _ in range(_SEARCH_STEPS):
            step = await self._ask(partial(queries.scan_jobs, query=rest, principal=principal))
            found += step.jobs
            rest = structs.replace(rest, before=step.resume, limit=query.limit - len(found))
            if step.resume is None or not rest.limit:
                break
        return JobPage(jobs=tuple(found), next=rest.before)

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        return await self._ask(lambda connection: queries.events(connection, job_id, after, limit))

    async def last_event(self, job_id: str) -> int:
        return await self._ask(lambda connection: queries.last_event(connection, job_id))

    def refuse(self, refusal: Refusal) -> None:
        if self._fault is None and len(self._pending.refusals) < _REFUSALS_HELD:
            self._pending.refusals.append(refusal)
            if not self._armed:
                self._arm(_GATHER)

    async def list_refusals(self, limit: int) -> list[Refusal]:
        return await self._ask(lambda connection: queries.list_refusals(connection, limit))

    async def copy(self, path: Path) -> None:
        await self._ask(lambda connection: None)  # what was written until now is on disk
        copied: asyncio.Future[None] = self._loop.create_future()

        def settle(error: ServiceError | None) -> None:
            if error is None:
                _resolve(copied, None)
            else:
                _reject(copied, error)

        self._owner.copy(Copy(path, lambda error: self._call(partial(settle, error))))
        await copied

    async def prune(self, bounds: Bounds, step: int) -> list[str]:
        def work(connection: Connection) -> list[str]:
            with transaction(driver_of(connection)):
                return queries.prune(connection, bounds, step)

        return await self._ask(work)

    def _ask(self, query: Callable[[Connection], T]) -> asyncio.Future[T]:
        waiter: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            waiter.set_exception(Unavailable("the node is stopping; try again once it is back", retry_after=5.0))
        elif self._fault is not None and self._pending.jobs:
            waiter.set_exception(unavailable(self._fault))  # the answer would leave out what is not on disk
        else:
            self._asks.append(Ask(query, waiter))
            if self._fault is not None:
                self._loop.call_soon(self._flush)
            elif not self._urgent:
                self._hurry()
        return waiter

    def _arm(self, delay: float) -> None:
        """Flush after a while."""
        self._armed = True
        self._timer = self._loop.call_later(delay, self._flush)

    def _hurry(self) -> None:
        """Flush once this turn of the loop is over, so that all of its writes share a group.

        While the owner is busy the next group gathers by itself; while the disk fails the next attempt is set.
        """
        self._urgent = True
        if not self._busy and self._fault is None:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._busy:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, asks = self._pending, self._asks
        self._urgent = False
        probe = self._fault is not None
        if not (pending.jobs or pending.refusals or asks or probe):
            self._armed = False
            return
        self._pending, self._asks = Pending(), []
        self._away = len(pending.jobs)
        self._busy = self._armed = True
        self._owner.give(Unit(self._encode(pending), pending.refusals, asks, probe))

    def _encode(self, pending: Pending) -> list[Ready]:
        """Encode a group; writes that no database can hold are given up."""
        ready: list[Ready] = []
        for steps in pending.jobs.values():
            try:
                ready.append((steps, encode_steps(steps)))
            except Exception as error:
                self._discard(steps, error)
        return ready

    def _report(self, unit_outcome: Outcome) -> None:
        self._call(partial(self._settle, unit_outcome))

    def _call(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has gone: nobody waits any more
            self._loop.call_soon_threadsafe(callback)

    def _settle(self, outcome: Outcome) -> None:
        """Tell the waiters how a unit went, keep what is not on disk, and see to the next unit."""
        self._busy = False
        self._away = 0
        for steps in outcome.committed:
            for step in steps:
                if step.waiter is not None:
                    _resolve(step.waiter, None)
        self._note(outcome)
        if outcome.failed:
            for steps in outcome.failed:
                for step in steps:
                    if step.waiter is not None:
                        _reject(step.waiter, unavailable(outcome.fault))
            self._pending.put_back(outcome.failed)
        for steps, error in outcome.poisoned:
            self._discard(steps, error)
        for waiter, answer in outcome.answers:
            _resolve(waiter, answer)
        for waiter, refusal in outcome.refused:
            _reject(waiter, refusal)
        self._go_on()

    def _note(self, outcome: Outcome) -> None:
        """Keep `fault`, the measures, and the pace of the attempts."""
        for seconds in outcome.commits:
            self.measures.commits.add(seconds)
        if outcome.fault is not None:
            self.measures.failed_commits += 1
            if outcome.fault != self._fault:
                log.error("%s", outcome.fault)
            self._fault = outcome.fault
        elif outcome.wrote:
            if self._fault is not None:
                log.warning("the store writes again")
            self._fault = None
            self._backoff = _BACKOFF[0]

    def _discard(self, steps: Steps, error: Exception) -> None:
        """Give up writes that no database can hold; what was there before those that somebody awaits may yet go."""
        job_id = steps[0].job.id
        awaited = [step.waiter for step in steps if step.waiter is not None]
        for waiter in awaited:
            _reject(waiter, Internal(f"job {job_id} cannot be recorded: {error}"))
        if awaited:
            self._pending.put_back([steps])
        else:
            log.error("job %s cannot be recorded: %s", job_id, error)

    def _go_on(self) -> None:
        pending = self._pending
        if self._closed:
            self._end()
        elif self._fault is not None:
            self._arm(self._backoff)
            self._backoff = min(2 * self._backoff, _BACKOFF[1])
            if self._asks and pending.jobs:
                self._refuse_asks()
            elif self._asks:
                self._flush()
        elif self._urgent or len(pending.jobs) >= _GATHER_JOBS:
            self._flush()
        elif pending.jobs or pending.refusals:
            self._arm(_GATHER)
        else:
            self._armed = False

    def _end(self) -> None:
        if self._fault is None:
            self._flush()
        if not self._busy and self._idle is not None:
            self._refuse_asks()
            self._idle.set_result(None)

    def _refuse_asks(self) -> None:
        asks, self._asks = self._asks, []
        for ask in asks:
            _reject(ask.waiter, unavailable(self._fault))


def _resolve(waiter: asyncio.Future[Any], value: Any) -> None:
    if not waiter.done():  # whoever waited may have been cancelled
        waiter.set_result(value)


def _reject(waiter: asyncio.Future[Any], error: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(error)
