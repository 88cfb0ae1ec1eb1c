"""A principal's session with the dispatcher: each operation authorises first, and records a refusal."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import msgspec

from remoterun.errors import NotFound, ServiceError
from remoterun.joblog import is_final
from remoterun.live import LiveJob
from remoterun.measuring import measure
from remoterun.messages import (
    Backup,
    Event,
    Job,
    JobPage,
    JobQuery,
    JobRequest,
    MadeToken,
    NewToken,
    NodeInfo,
    Refusal,
    ScriptInfo,
    TokenInfo,
)
from remoterun.metrics import METRICS
from remoterun.service import AsyncArtifact, AsyncSession, Origin
from remoterun.store.interface import Record

if TYPE_CHECKING:
    from remoterun.access import Principal
    from remoterun.dispatcher import Dispatcher

P = ParamSpec("P")
T = TypeVar("T")

_EVENTS_AT_ONCE = 500
_CHUNK = 2**18  # bytes
_RUNS_REMEMBERED = 1024


def _operation(
    method: Callable[Concatenate[DispatcherSession, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[DispatcherSession, P], Coroutine[Any, Any, T]]:
    """Check that the credential still holds, and record what is refused."""

    @wraps(method)
    async def checked(self: DispatcherSession, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            self._principal.check_valid()
            return await method(self, *args, **kwargs)
        except ServiceError as error:
            self._refused(method.__name__, error)
            raise

    return checked


class DispatcherSession(AsyncSession):
    """The operations, for one principal."""

    def __init__(self, dispatcher: Dispatcher, principal: Principal, origin: Origin) -> None:
        self._dispatcher = dispatcher
        self._principal = principal
        self._origin = origin
        self._ran: deque[str] = deque(maxlen=_RUNS_REMEMBERED)

    @property
    def principal(self) -> str:
        return self._principal.name

    def _refused(
        self, operation: str, error: ServiceError, script: str | None = None, trace: str | None = None
    ) -> None:
        self._dispatcher.refuse(error, self._principal.name, self._origin, operation, script, trace)

    @_operation
    async def info(self, metrics: bool = False) -> NodeInfo:
        principal = self._principal
        info = msgspec.structs.replace(
            self._dispatcher.info(), principal=principal.name, scopes=tuple(sorted(principal.scopes))
        )
        if not metrics:
            return info
        samples = await measure(self._dispatcher)
        if not principal.may_read:  # nor hears it which scripts there are
            samples = tuple(sample for sample in samples if "script" not in METRICS[sample.metric].labels)
        return msgspec.structs.replace(info, metrics=samples)

    @_operation
    async def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        self._principal.check_read()
        return self._dispatcher.catalog.list(pattern)

    @_operation
    async def get_script(self, name: str) -> ScriptInfo:
        self._principal.check_read()
        return (await self._dispatcher.catalog.get(name)).info

    def run(self, request: JobRequest) -> Awaitable[Job]:
        try:
            self._check_run(request)
            done = self._dispatcher.run(self._principal, self._origin, request)
        except ServiceError as error:
            self._refused("run", error, request.script, request.trace)
            failed: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed
        if isinstance(done, asyncio.Task):
            script, trace = request.script, request.trace  # not the request: its files would be held until the end
            done.add_done_callback(lambda task: self._task_refused(task, script, trace))
        if not self._principal.may_read:
            done.add_done_callback(self._remember_run)
        return done

    def _remember_run(self, done: asyncio.Future[Job]) -> None:
        """Let a caller without the scope `read` see what its own `run` printed: that is the answer to it."""
        if not done.cancelled() and done.exception() is None:
            self._ran.append(done.result().id)

    def _check_run(self, request: JobRequest) -> None:
        self._principal.check_valid()
        self._principal.check_run(request.script)

    def _task_refused(self, task: asyncio.Future[Job], script: str, trace: str | None) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), ServiceError):
            self._refused("run", error, script, trace)

    async def begin(self, request: JobRequest) -> tuple[Job, Callable[[], Awaitable[Job]]]:
        job = await self._submit("run", request)
        return job, lambda: self._end_of_run(job.id)

    async def _end_of_run(self, job_id: str) -> Job:
        job = await self._dispatcher.wait(job_id, None)
        if not self._principal.may_read:
            self._ran.append(job_id)
        return job

    async def submit(self, request: JobRequest) -> Job:
        return await self._submit("submit", request)

    async def _submit(self, operation: str, request: JobRequest) -> Job:
        try:
            self._check_run(request)
            return await self._dispatcher.submit(self._principal, self._origin, request)
        except ServiceError as error:
            self._refused(operation, error, request.script, request.trace)
            raise

    async def _find(self, job_id: str) -> LiveJob | Record:
        found = await self._dispatcher.jobs.find(job_id)
        self._principal.check_read_job(found.principal if isinstance(found, LiveJob) else found.job.principal)
        return found

    @_operation
    async def get_job(self, job_id: str) -> Job:
        found = await self._find(job_id)
        return found.snapshot() if isinstance(found, LiveJob) else found.job

    @_operation
    async def list_jobs(self, query: JobQuery) -> JobPage:
        self._principal.check_read()
        owner = None if self._principal.may_read_all else self._principal.name
        return await self._dispatcher.jobs.page(query, owner)

    @_operation
    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        await self._find(job_id)
        return await self._dispatcher.wait(job_id, timeout)

    async def events(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        try:
            self._principal.check_valid()
            found = await (self._dispatcher.jobs.find(job_id) if job_id in self._ran else self._find(job_id))
        except ServiceError as error:
            self._refused("events", error)
            raise
        while True:
            batch = found.log.after(after) if isinstance(found, LiveJob) else None
            if batch is None:
                batch = await self._dispatcher.store.events(job_id, after, _EVENTS_AT_ONCE)
                if not batch and isinstance(found, Record):
                    return
            self._principal.check_valid()
            for event in batch:
                yield event
                after = event.n
                if is_final(event):
                    return
            if isinstance(found, LiveJob) and found.log.last <= after:
                if found.log.is_closed:
                    return
                await found.log.changed()

    @_operation
    async def cancel(self, job_id: str) -> Job:
        job = (await self._dispatcher.jobs.record(job_id)).job
        self._principal.check_cancel(job.principal, job.script)
        return await self._dispatcher.cancel(job_id)

    @_operation
    async def rerun(self, job_id: str, newest: bool = False) -> Job:
        record = await self._dispatcher.jobs.record(job_id)
        self._principal.check_read_job(record.job.principal)
        self._principal.check_run(record.job.script)
        return await self._dispatcher.rerun(self._principal, self._origin, record, newest)

    @_operation
    async def open_artifact(self, job_id: str, name: str) -> AsyncArtifact:
        found = await self._find(job_id)
        job = found.snapshot() if isinstance(found, LiveJob) else found.job
        info = next((artifact for artifact in job.artifacts if artifact.name == name), None)
        if info is None:
            raise NotFound(f"job {job_id} left no artifact named {name[:200]}")
        path = self._dispatcher.artifacts / job.id / info.name
        if not await asyncio.to_thread(path.is_file):
            raise NotFound(f"the artifact {name[:200]} is no longer kept")
        return AsyncArtifact(info, _chunks(path, 0, info.size), lambda start: _chunks(path, start, info.size))

    @_operation
    async def list_refusals(self, limit: int = 50) -> list[Refusal]:
        self._principal.check_read_all()
        return await self._dispatcher.store.list_refusals(max(1, min(limit, 1000)))

    @_operation
    async def list_tokens(self) -> list[TokenInfo]:
        self._principal.check_admin()
        return [*await asyncio.to_thread(self._dispatcher.access.tokens.list)]

    @_operation
    async def new_token(self, wanted: NewToken) -> MadeToken:
        self._principal.check_admin()
        access = self._dispatcher.access
        token = await asyncio.to_thread(access.tokens.new, wanted.name, wanted.scopes, wanted.expires)
        access.poll()
        return MadeToken(wanted.name, token)

    @_operation
    async def revoke_token(self, name: str) -> None:
        self._principal.check_admin()
        access = self._dispatcher.access
        await asyncio.to_thread(access.tokens.revoke, name)
        access.poll()

    @_operation
    async def backup(self) -> Backup:
        self._principal.check_admin()
        return await self._dispatcher.backups.make()


async def _chunks(path: Path, start: int, stop: int) -> AsyncIterator[bytes]:
    """Read a file; never more of it than it had when it was taken, whatever a stray process did to it."""
    with await asyncio.to_thread(path.open, "rb") as file:
        file.seek(start)
        left = stop - start
        while left > 0 and (chunk := await asyncio.to_thread(file.read, min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk
