"""The dispatcher: it admits calls, has them run, records what happens. It implements `Service` in the node.

What is promised about disks, and where it is kept:

- A job of `submit`, or with a key, is *durable*: it is on disk before it is answered, `running` is on disk
  before its script starts, and its end is on disk before anyone hears of it.
- Any other job of `run` never waits for a disk: it is recorded with the next group of writes after it ended,
  or after it has run for a while. Until then nobody was told that it exists.
- A job that the store holds as `queued` starts only once `running` is on disk: a node that dies can never start
  it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from remoterun import failpoints
from remoterun.access import Access, Principal
from remoterun.admission import check, well_formed_trace
from remoterun.backup import Backups
from remoterun.catalog import Catalog, Script
from remoterun.config import NodeSettings
from remoterun.durably import DurableAdmission
from remoterun.environments import Environments
from remoterun.errors import (
    Busy,
    Conflict,
    Invalid,
    ServiceError,
    Unavailable,
)
from remoterun.held import HeldJobs
from remoterun.ids import new_id
from remoterun.jobindex import JobIndex
from remoterun.joblines import JobLines, about
from remoterun.keys import RecentKeys
from remoterun.live import LiveJob
from remoterun.logs import with_fields
from remoterun.measures import Measures
from remoterun.messages import (
    Event,
    Job,
    JobError,
    JobQuery,
    JobRequest,
    Load,
    NodeInfo,
    Refusal,
    StateEvent,
    now,
)
from remoterun.recovery import recover
from remoterun.retention import prune, prune_versions, sweep
from remoterun.sealing import Seal
from remoterun.service import AsyncService, AsyncSession, Credential, Origin
from remoterun.session import DispatcherSession
from remoterun.states import State
from remoterun.store.interface import Extra, Record, Store
from remoterun.tracing import Tracer
from remoterun.uploads import Kept, Uploads
from remoterun.verdict import verdict
from remoterun.waiting import WaitingJobs
from remoterun.workers.interface import Outcome, StopReason
from remoterun.workers.pool import WorkerPool

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TICK = 0.05  # seconds between looks at deadlines and at what the store was not told yet
_FLUSH_AT = 2**17  # bytes of a job's output that go to the store at once
_PARK_AT = 2**20  # bytes of a job's output on their way to disk at which its script has to wait
_LONGEST_RETRY = 600.0  # seconds between two attempts at most
_LAST_ENDS = 2.0  # seconds that a stopping node gives the disk for the ends of jobs
_LAST_ANSWERS = 0.05  # seconds that it gives who is told of them
_REFUSALS_PER_TICK = 20  # recorded at most; the others are only counted
_BACKLOG = 20_000  # jobs that the store has not written, beyond which no more are taken


class Census(NamedTuple):
    """Jobs by where they are, and how many bytes those hold that wait."""

    queued: int
    held: int
    running: int
    waiting_bytes: int


class Dispatcher(AsyncService):
    """Runs named scripts for proved principals.

    Parameters:
        name: the node's name in records.
        version: of remoterun, for `info`.
        workers: jobs at once.
        artifacts: folder of what jobs left, one folder a job.
        uploads: the files that callers sent along.
        backups: makes copies of the data.
        addresses: gives what the transports took.
    """

    def __init__(
        self,
        settings: NodeSettings,
        *,
        name: str,
        version: str,
        workers: int,
        access: Access,
        catalog: Catalog,
        environments: Environments,
        pool: WorkerPool,
        store: Store,
        artifacts: Path,
        uploads: Uploads,
        backups: Backups,
        seal: Seal,
    ) -> None:
        self.settings = settings
        self.name = name
        self.version = version
        self.workers = workers
        self.access = access
        self.catalog = catalog
        self.store = store
        self.artifacts = artifacts
        self.uploads = uploads
        self.backups = backups
        self.counters: Counter[str] = Counter()
        self.addresses: Mapping[str, tuple[str, ...]] = {}
        self.brokers: Callable[[], Mapping[str, str]] = dict  # what queues say of theirs
        self.connections: Callable[[], Mapping[str, int]] = dict  # by transport
        self.certificates: Callable[[], Mapping[str, str]] = dict  # PEM files, by transport
        self.measures = Measures()
        self.tracer: Tracer | None = None
        self.environments = environments
        self._lines = JobLines(settings.log_jobs)
        self.is_draining = False
        self._pool = pool
        self.seal = seal
        self.started = now()
        self._loop = asyncio.get_running_loop()  # kept: before 3.12 asking for it is a system call (getpid)
        self.jobs = JobIndex(store)
        self._waiting: WaitingJobs[LiveJob] = WaitingJobs()
        self._held = HeldJobs(environments, self._environment_settled)
        self._waiting_bytes = 0  # of jobs in the queue, and of those that are held
        self._running: set[LiveJob] = set()
        self._unrecorded: set[LiveJob] = set()
        self.keys = RecentKeys()
        self._durably = DurableAdmission(self)
        self._tasks: set[asyncio.Task[Any]] = set()  # calls that are being answered
        self._housekeeping: list[asyncio.Task[None]] = []
        self._average = 0.1  # seconds that a job takes
        self._refusals_left = _REFUSALS_PER_TICK
        self._idle = asyncio.Event()
        self._ends: set[asyncio.Future[None]] = set()  # on their way to disk; who waits for them is told then

    # -- the door ---------------------------------------------------------------------------------

    async def authenticate(self, credential: Credential, origin: Origin) -> AsyncSession:
        try:
            principal = self.access.authenticate(credential)
        except ServiceError as error:
            self.refuse(error, None, origin, "authenticate", None)
            raise
        return DispatcherSession(self, principal, origin)

    def refuse(
        self,
        error: ServiceError,
        principal: str | None,
        origin: Origin,
        operation: str,
        script: str | None,
        trace: str | None = None,
    ) -> None:
        """Record a refused call: who, what, why. A flood of them is counted, and recorded in part."""
        self.counters[f"refused_{error.code}"] += 1
        if self._refusals_left <= 0:
            return
        self._refusals_left -= 1
        self._lines.refused(error, principal, origin, operation, script)
        if self.tracer is not None and operation in ("run", "submit"):
            self.tracer.refused(error, principal, origin, script, well_formed_trace(trace))
        self.store.refuse(
            Refusal(
                time=now(),
                principal=principal,
                transport=origin.transport,
                operation=operation,
                script=None if script is None else script[:200],
                code=error.code,
                message=error.message[:1000],
                peer=origin.peer,
            )
        )

    # -- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what an earlier node left, and begin to look after what runs."""
        await recover(self)
        self.keys.is_complete = not await self.store.list_jobs(JobQuery(limit=1), None)
        folders = (self.artifacts, self.uploads.folder)
        self._housekeeping = [
            asyncio.create_task(self._tick()),
            asyncio.create_task(
                prune(self.store, folders, self.settings.retention, self.backups.holding, self._count_removed)
            ),
            asyncio.create_task(sweep(self.store, folders, new_id())),
            asyncio.create_task(prune_versions(self.catalog, self.settings.retention, self.backups.holding)),
            asyncio.create_task(self.backups.keep_making()),
        ]

    def _count_removed(self, jobs: int) -> None:
        self.measures.removed += jobs

    async def stop(self, grace: float) -> None:
        """Take no more calls, let running jobs go on for `grace` seconds, stop what is left, record it all."""
        self.is_draining = True
        self._refuse_undurable()
        if self._running:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), grace)
        for job in list(self._running):
            self._stop_attempt(job, "node_stopping", min(0.5, self.settings.cancel_grace))
        if self._running:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), 1.5)
        if self._ends:
            await asyncio.wait(self._ends, timeout=_LAST_ENDS)
        for job in self.jobs.live():
            _fail_waiters(job, Unavailable("the node stopped before the job ended", retry_after=5.0))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_ANSWERS)
        for task in (*self._tasks, *self._housekeeping):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._housekeeping, return_exceptions=True)
        await self.backups.stop()

    def _refuse_undurable(self) -> None:
        """Turn away calls of `run` that have not started: they were never accepted, and will not be."""
        for job in self.jobs.live():
            if job.state is State.QUEUED and not job.is_stored and job.is_waiting:
                self._void(job, Unavailable("the node is stopping; the script did not start", retry_after=5.0))

    def take_up(self, job: LiveJob, record: Record) -> None:
        """Go on with a job that an earlier node left unfinished."""
        self.jobs.add(job)
        if self.tracer is not None:
            job.span = self.tracer.begin(job, is_recovered=True)
        if job.key is not None:
            self.keys.add(job.principal, job.key, job.id, job.created)
        if job.state is State.QUEUED:
            not_before = None if record.extra is None else record.extra.not_before
            self._later(0 if not_before is None else (not_before - now()).total_seconds(), job)
        elif "lost" in job.script.settings.retry_on and job.attempt <= job.script.settings.retries:
            self._retry(job)
        else:
            self._end(job, State.LOST, JobError(type="NodeDied", message="the node died while the job ran"))

    # -- admission --------------------------------------------------------------------------------

    def run(self, principal: Principal, origin: Origin, request: JobRequest) -> asyncio.Future[Job]:
        """Start a job; the future is done once it ended."""
        script = self.catalog.peek(request.script)
        if script is None or request.key is not None or request.files:
            return self._keep(self._run_slowly(principal, origin, request))
        job = self.admit(principal, origin, request, script)
        done = self._loop.create_future()
        job.waiters.append(done)
        job.admit()
        self._enqueue(job)
        return done

    async def _run_slowly(self, principal: Principal, origin: Origin, request: JobRequest) -> Job:
        script = await self.catalog.get(request.script)
        if request.key is not None or request.files:
            job = await self._durably.admit(principal, origin, request, script)
            del request  # its files are on disk; they would be held until the job ends
            return job if isinstance(job, Job) and job.has_ended else await self.wait(job.id, None)
        live = self.admit(principal, origin, request, script)
        live.admit()
        self._enqueue(live)
        return await self._ended(live)

    async def submit(self, principal: Principal, origin: Origin, request: JobRequest) -> Job:
        """Give the job once it is on disk."""
        script = self.catalog.peek(request.script) or await self.catalog.get(request.script)
        job = await self._durably.admit(principal, origin, request, script)
        return job if isinstance(job, Job) else job.snapshot()

    def admit(
        self,
        principal: Principal,
        origin: Origin,
        request: JobRequest,
        script: Script,
        *,
        mark: str | None = None,
        rerun_of: str | None = None,
        kept: Kept | None = None,
    ) -> LiveJob:
        """Check a request and make its job, which nobody has heard of yet."""
        self.check_open()
        call = check(script, request, self.settings.limits.request, mark)
        self._check_room(script, call.size)
        extra = call.extra
        if kept is not None:
            extra = msgspec.structs.replace(extra or Extra(), files=kept.files)
        job = LiveJob(
            self,
            script,
            id=new_id() if kept is None else kept.job_id,
            params=call.checked.params if call.checked else None,
            masked=call.checked.masked if call.checked else None,
            args=call.args,
            stdin=call.stdin,
            timeout=call.timeout,
            principal=principal.name,
            transport=origin.transport,
            peer=origin.peer,
            node=self.name,
            created=now(),
            extra=extra,
            trace=call.trace,
            key=request.key,
            rerun_of=rerun_of,
            size=call.size,
        )
        if self.tracer is not None:
            job.span = self.tracer.begin(job)
        self.jobs.add(job)
        return job

    def check_open(self) -> None:
        """Raise Unavailable or Busy while no job is taken, whoever asks."""
        if self.is_draining:
            raise Unavailable("the node is stopping", retry_after=5.0)
        if self.store.fault is not None:
            raise Unavailable(f"nothing can be recorded now: {self.store.fault}", retry_after=5.0)
        if self.store.backlog > _BACKLOG:
            raise Busy("the disk does not keep up with what is recorded", retry_after=1.0)

    def _check_room(self, script: Script, size: int) -> None:
        has_room = len(self._running) < self.workers and self._waiting.can_start(script.name, self._limit(script))
        if has_room and not self._held.must_wait(script.needs):
            return
        waiting = len(self._waiting) + len(self._held)
        if waiting >= self.settings.queue or self._waiting_bytes + size > self.settings.limits.waiting:
            wait = waiting * self._average / self.workers
            raise Busy(f"{waiting} jobs are waiting already", retry_after=round(min(max(wait, 0.1), 60), 1))

    def _limit(self, script: Script) -> int:
        return script.settings.concurrency

    async def record_admission(self, job: LiveJob) -> None:
        """Put a new job on disk and let it wait for a worker; if the disk refuses, it never was."""
        job.is_stored = True
        job.admit()
        if job.params != job.masked and job.params is not None:
            job.extra = msgspec.structs.replace(job.extra or Extra(), sealed=self.seal.seal(job.params))
        written = self.store.durable(job.snapshot(), job.extra, job.log.unstored())
        job.log.mark_stored()
        self._enqueue(job)
        try:
            await asyncio.shield(written)
        except ServiceError as error:
            self._void(job, error)
            raise
        failpoints.hit("dispatcher.admitted")

    def _void(self, job: LiveJob, error: ServiceError) -> None:
        """Take back a job that could not be recorded, and was not started."""
        job.is_void = True
        self.jobs.forget(job)
        if job.key is not None:
            self.keys.forget(job.principal, job.key)
        self._leave_queue(job)
        if job.extra is not None and job.extra.files:
            self._loop.run_in_executor(None, self.uploads.remove, [job.id])
        _fail_waiters(job, error)

    # -- running ----------------------------------------------------------------------------------

    def _enqueue(self, job: LiveJob) -> None:
        """Start a job where there is room, else let it wait."""
        if self._held.must_wait(job.script.needs) and not self.is_draining:
            self._hold(job)
            return
        limit = self._limit(job.script)
        if not self._waiting and not job.is_stored and self._hand_ahead(job):
            return
        if not self.is_draining and len(self._running) < self.workers and self._waiting.can_start(job.group, limit):
            self._waiting.started(job.group, limit)
            self._start(job)
            return
        job.is_waiting = True
        self._waiting_bytes += job.size
        self._waiting.push(job, limit)

    def _hold(self, job: LiveJob) -> None:
        """Let a job wait until its script's environment is ready, in nobody's way."""
        needs = job.script.needs
        assert needs is not None
        job.is_waiting = job.is_held = True
        self._waiting_bytes += job.size
        self._held.hold(job, needs)

    def _environment_settled(self, job: LiveJob, reason: str | None) -> None:
        """Have a job go on for which an environment was built, or fail where that cannot be."""
        job.is_waiting = job.is_held = False
        self._waiting_bytes -= job.size
        job.progress_info = None  # of the build, not of the script
        if reason is None:
            self._enqueue(job)
        else:
            self._end(job, State.FAILED, JobError(type="EnvironmentFailed", message=reason))

    def _hand_ahead(self, job: LiveJob) -> bool:
        """Hand a job to a warm worker that is about to be free, past the queue where nothing else waits."""
        program = job.script.program
        assert program is not None
        if program.isolation != "warm" or self.is_draining:
            return False
        job.attempt += 1
        job.run = self._pool.begin_ahead(program, job.assignment, job)
        if job.run is None:
            job.attempt -= 1
        return job.run is not None

    def attempt_began(self, job: LiveJob) -> None:
        """Note that a job which was handed to a busy worker has begun there."""
        self._waiting.started(job.group, self._limit(job.script))
        self._running.add(job)
        event = job.move(State.RUNNING)
        job.started = event.time
        job.log.append(event)
        self._unrecorded.add(job)
        if job.timeout:
            job.deadline = self._loop.time() + job.timeout
        self._count_start(job, event.time)

    def attempt_returned(self, job: LiveJob) -> None:
        """Have a job wait again that was handed to a worker which never began it."""
        job.run = None
        job.attempt -= 1
        if job.span is not None:
            job.span.returned()
        if job.cancel_requested:
            self._end(job, State.CANCELLED, None)
        elif self.is_draining:
            self._void(job, Unavailable("the node is stopping; the script did not start", retry_after=5.0))
        else:
            self._enqueue(job)

    def _leave_queue(self, job: LiveJob) -> None:
        if job.is_waiting:
            job.is_waiting = False
            self._waiting_bytes -= job.size
            if job.is_held:
                self._held.leave(job)
            else:
                self._waiting.cancelled()

    def _start_waiting(self) -> None:
        """Start what waits, as far as there is room; hand to busy workers what they will soon come to."""
        while len(self._running) < self.workers and not self.is_draining:
            job = self._waiting.pop()
            if job is None:
                return
            job.is_waiting = False
            self._waiting_bytes -= job.size
            self._start(job)
        while (head := self._waiting.head()) is not None and not head.is_stored and self._hand_ahead(head):
            self._waiting.hand_over()
            head.is_waiting = False
            self._waiting_bytes -= head.size

    def _start(self, job: LiveJob) -> None:
        """Move a job to `running`, and start it: at once, or when that is on disk."""
        self._running.add(job)
        job.attempt += 1
        event = job.move(State.RUNNING)
        job.started = event.time
        if not job.is_stored:
            job.log.append(event)
            self._unrecorded.add(job)
            self._launch(job)
            return
        written = self.store.durable(job.snapshot(), job.extra, (*job.log.unstored(), event))
        written.add_done_callback(lambda done: self._started_on_disk(job, event, done))

    def _started_on_disk(self, job: LiveJob, event: StateEvent, written: asyncio.Future[None]) -> None:
        if job.is_void:
            self._release(job)
        elif written.exception() is not None:
            self._put_back(job)
        else:
            job.log.append(event)
            job.log.mark_stored()
            failpoints.hit("dispatcher.before_start")
            if job.cancel_requested:
                self._release(job)
                self._end(job, State.CANCELLED, None)
            else:
                self._launch(job)

    def _put_back(self, job: LiveJob) -> None:
        """Let a job wait on that could not be recorded as running."""
        job.state = State.QUEUED
        job.attempt -= 1
        job.started = None
        self._release(job)
        self._later(1.0, job)

    def _launch(self, job: LiveJob) -> None:
        if job.timeout:
            job.deadline = self._loop.time() + job.timeout
        assert job.started is not None
        self._count_start(job, job.started)
        try:
            job.run = self._pool.begin(job.assignment(), job)
        except Exception as error:
            logger.exception("job %s cannot be started", job.id, extra=with_fields(about(job)))
            self.attempt_ended(job, Outcome(error=JobError(type="Internal", message=str(error))))
            return
        failpoints.hit("dispatcher.started")

    def _count_start(self, job: LiveJob, moment: datetime) -> None:
        if job.attempt == 1:
            self.measures.queue.add((moment - job.created).total_seconds())
        if job.span is not None:
            job.span.started(job, moment)

    def _release(self, job: LiveJob) -> None:
        """Give a job's place to the next one."""
        self._running.discard(job)
        self._waiting.ended(job.group)
        if self.is_draining:
            if not self._running:
                self._idle.set()
        elif self._waiting:
            self._start_waiting()

    def output_came(self, job: LiveJob, size: int) -> bool:
        """Note output of a job; False parks its script until the disk has caught up."""
        if job.state is State.QUEUED and not job.is_stored:
            return True  # what the store has as queued would be started by the next node
        self._unrecorded.add(job)
        job.unflushed += size
        if job.unflushed < _FLUSH_AT or job.flushing:
            return job.unflushed < _PARK_AT
        self._flush(job)
        return True

    def _flush(self, job: LiveJob) -> None:
        """Give a job's new events to the store, and note when they are on disk."""
        job.unflushed = 0
        job.flushing = True
        self._record(job)
        barrier = self.store.durable(job.snapshot(), job.extra, ())
        barrier.add_done_callback(lambda done: self._flushed(job, done))

    def _flushed(self, job: LiveJob, barrier: asyncio.Future[None]) -> None:
        if barrier.exception() is not None and job.state is State.RUNNING:
            self._loop.call_later(0.5, self._flush, job)
            return
        job.flushing = False
        if job.unflushed >= _FLUSH_AT and job.state is State.RUNNING:
            self._flush(job)
        if job.run is not None:
            job.run.resume()

    def _record(self, job: LiveJob) -> None:
        events = job.log.unstored()
        job.log.mark_stored()
        self._unrecorded.discard(job)
        self.store.write(job.snapshot(), job.extra, events)
        job.log.trim()

    # -- ends -------------------------------------------------------------------------------------

    def attempt_ended(self, job: LiveJob, outcome: Outcome) -> None:
        """Decide what an attempt's end means: a final state, or another attempt."""
        job.run = None
        job.deadline = 0.0
        job.exit_code = outcome.exit_code
        job.result = outcome.result
        program = job.script.program
        assert program is not None
        state, error = verdict(program, self.settings.limits, job.timeout, outcome)
        if job.span is not None:
            job.span.attempt_ended(job, state, error)
        self._release(job)
        settings = job.script.settings
        may_retry = job.attempt <= settings.retries and state.value in settings.retry_on
        if may_retry and not job.cancel_requested and not (error is not None and error.type == "invalid"):
            self._retry(job, error)
        else:
            self._end(job, state, error)

    def _retry(self, job: LiveJob, error: JobError | None = None) -> None:
        """Queue a job for another attempt, after a pause that doubles each time."""
        job.error = error
        delay = min(job.script.settings.retry_delay * 2 ** (job.attempt - 1), _LONGEST_RETRY) * random.uniform(0.5, 1)
        not_before = now() + timedelta(seconds=delay)
        job.extra = msgspec.structs.replace(job.extra or Extra(), not_before=not_before)
        event = job.move(State.QUEUED)
        if job.span is not None:
            job.span.waits(event.time)
        job.log.append(event)
        job.is_stored = True
        self._record(job)
        self.counters["retries"] += 1
        self._later(delay, job)

    def _later(self, delay: float, job: LiveJob) -> None:
        """Let a job wait for a worker after `delay` seconds."""
        if delay <= 0:
            self._enqueue(job)
            return

        def wait_now() -> None:
            if job.state is State.QUEUED and not job.is_void and not job.is_waiting:
                self._enqueue(job)

        self._loop.call_later(delay, wait_now)

    def _end(self, job: LiveJob, state: State, error: JobError | None) -> None:
        """Bring a job to its final state: recorded, then told."""
        event = job.move(state)
        job.ended_at = event.time
        job.error = error
        if job.extra is not None and job.extra.sealed is not None:
            job.extra = msgspec.structs.replace(job.extra, sealed=None)
        self._unrecorded.discard(job)
        self.counters[f"jobs_{state.value}"] += 1
        took = None
        if job.started is not None:
            took = (event.time - job.started).total_seconds()
            self._average += (took - self._average) * 0.05
        self.measures.ended(job.script.name, state, took)
        if state in self._lines.states:
            self._lines.ended(job)
        if job.span is not None:
            job.span.ended(job)
        ended = job.snapshot()
        events = (*job.log.unstored(), event)
        if not job.is_stored:
            self.store.write(ended, job.extra, events)
            self._publish_end(job, event, ended)
            return
        failpoints.hit("dispatcher.before_end")
        written = self.store.durable(ended, job.extra, events)
        self._ends.add(written)
        written.add_done_callback(lambda done: self._end_on_disk(job, ended, events, done))

    def _end_on_disk(self, job: LiveJob, ended: Job, events: tuple[Event, ...], written: asyncio.Future[None]) -> None:
        if not written.cancelled() and written.exception() is not None:
            # The end is true whether the disk takes it or not: the store keeps trying.
            self.store.write(ended, job.extra, events)
        self._ends.discard(written)
        failpoints.hit("dispatcher.after_end")
        self._publish_end(job, events[-1], ended)

    def _publish_end(self, job: LiveJob, event: Event, ended: Job) -> None:
        job.log.append(event)
        job.log.mark_stored()
        self.jobs.ended(job)
        for waiter in job.waiters:
            if not waiter.done():
                waiter.set_result(ended)
        job.waiters.clear()

    # -- what the other operations need -------------------------------------------------------------

    async def wait(self, job_id: str, timeout: float | None) -> Job:
        """Give a job once it ended, or as it stands after `timeout` seconds."""
        found = await self.jobs.find(job_id)
        if isinstance(found, Record):
            return found.job
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._ended(found), timeout)
        return found.snapshot()

    async def _ended(self, job: LiveJob) -> Job:
        if job.log.is_closed:
            return job.snapshot()
        done: asyncio.Future[Job] = self._loop.create_future()
        job.waiters.append(done)
        return await done

    async def cancel(self, job_id: str) -> Job:
        """Stop a job; give it once it ended."""
        found = await self.jobs.find(job_id)
        if isinstance(found, Record):
            return found.job
        if found.ended_at is None and not found.cancel_requested:
            found.cancel_requested = True
            if found.run is not None:
                self._stop_attempt(found, "cancelled", self.settings.cancel_grace)
            elif found.state is State.QUEUED:
                self._leave_queue(found)
                self._end(found, State.CANCELLED, None)
        return await self._ended(found)

    def _stop_attempt(self, job: LiveJob, reason: StopReason, grace: float) -> None:
        if reason == "node_stopping":
            job.cancel_requested = True  # whatever its retries: it ends now
        if job.run is not None:
            job.run.stop(reason, grace)

    async def rerun(self, principal: Principal, origin: Origin, old: Record, newest: bool) -> Job:
        """Submit an ended job's request again."""
        job, extra = old.job, old.extra or Extra()
        if not job.has_ended:
            raise Conflict("this job has not ended yet; cancel it, or wait for its end")
        script = await (self.catalog.get(job.script) if newest else self.catalog.get_version(job.script, job.version))
        request = JobRequest(
            script=job.script,
            params=job.params,
            args=job.args if isinstance(job.args, tuple) else None,
            stdin_base64=extra.stdin_base64,
            timeout=extra.timeout,
            files=self.uploads.again(job.id, extra.files) if extra.files else None,
        )
        if extra.secret:
            raise Invalid("this job had secret parameters, which are not kept; call the script anew")
        return (await self._durably.admit_whole(principal, origin, request, script, rerun_of=job.id)).snapshot()

    def info(self) -> NodeInfo:
        """Describe the node."""
        import platform

        return NodeInfo(
            node=self.name,
            version=self.version,
            python=platform.python_version(),
            started=self.started,
            transports=self.addresses,
            scripts=len(self.catalog.list()),
            load=Load(
                queued=len(self._waiting) + len(self._held),
                running=len(self._running),
                workers=self.workers,
                queue=self.settings.queue,
            ),
            enforced=self._pool.enforced(),
            brokers=self.brokers(),
            counters=dict(self.counters),
        )

    def census(self) -> Census:
        """Count the jobs that are here."""
        return Census(len(self._waiting), len(self._held), len(self._running), self._waiting_bytes)

    def processes(self) -> tuple[int, Mapping[str, int]]:
        """Count fork servers, and workers by what they do."""
        return self._pool.processes()

    # -- housekeeping -------------------------------------------------------------------------------

    def _keep(self, coroutine: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _tick(self) -> None:
        """Stop what is over its time, record what runs for long, look for changed tokens."""
        loop = self._loop
        ticks = 0
        while True:
            due = loop.time() + _TICK
            await asyncio.sleep(_TICK)
            moment = loop.time()
            self.measures.lag.add(max(moment - due, 0.0))  # a timer may be early by its resolution
            for job in list(self._running):
                if job.deadline and job.deadline < moment:
                    job.deadline = 0.0
                    self._stop_attempt(job, "timed_out", self.settings.cancel_grace)
            for job in list(self._unrecorded):
                self._record(job)
            ticks += 1
            if ticks % 10 == 0:
                self._refusals_left = _REFUSALS_PER_TICK
                try:
                    self.access.poll()
                except Exception as error:
                    logger.error("the tokens cannot be read, those known stay in force: %s", error)


def _fail_waiters(job: LiveJob, error: ServiceError) -> None:
    """Tell who waits for a job that its end will not be heard of here."""
    for waiter in job.waiters:
        if not waiter.done():
            waiter.set_exception(error)
    job.waiters.clear()
