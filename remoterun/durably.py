"""Admission of jobs that are on disk, with their files and their keys, before their callers hear of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from remoterun.admission import check
from remoterun.errors import Conflict, ServiceError
from remoterun.ids import new_id
from remoterun.keys import fingerprint
from remoterun.live import LiveJob
from remoterun.messages import Job, JobRequest, now
from remoterun.store.interface import Record
from remoterun.uploads import Kept

if TYPE_CHECKING:
    from remoterun.access import Principal
    from remoterun.catalog import Script
    from remoterun.dispatcher import Dispatcher
    from remoterun.service import Origin


class DurableAdmission:
    """Admits jobs for a dispatcher, each of which is on disk once it is given."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def admit(self, principal: Principal, origin: Origin, request: JobRequest, script: Script) -> Job | LiveJob:
        """Admit a job, or give the one that the request's key stands for.

        Raises:
            ServiceError: the request is refused, or cannot be recorded; then it never was.
        """
        dispatcher = self._dispatcher
        if request.files:
            dispatcher.check_open()
            check(script, request, dispatcher.settings.limits.request, None)  # before anything is written
        async with dispatcher.uploads.received(request) as request:
            if request.key is not None:
                return await self._admit_with_key(principal, origin, request, script)
            return await self.admit_whole(principal, origin, request, script)

    async def admit_whole(
        self,
        principal: Principal,
        origin: Origin,
        request: JobRequest,
        script: Script,
        *,
        mark: str | None = None,
        rerun_of: str | None = None,
    ) -> LiveJob:
        """Admit a job and record it, its files before it.

        Parameters:
            mark: the request's fingerprint, where it has a key.
            rerun_of: the id of the job whose call this is again.

        Raises:
            ServiceError: as `admit`.
        """
        dispatcher = self._dispatcher
        kept: Kept | None = None
        if request.files:
            call = check(script, request, dispatcher.settings.limits.request, mark)
            job_id = new_id()
            kept = Kept(job_id, await dispatcher.uploads.keep(job_id, call.files))
        try:
            job = dispatcher.admit(principal, origin, request, script, mark=mark, rerun_of=rerun_of, kept=kept)
        except ServiceError:
            if kept is not None:
                await asyncio.to_thread(dispatcher.uploads.remove, [kept.job_id])
            raise
        if request.key is not None:
            dispatcher.keys.add(principal.name, request.key, job.id, job.created)
        await dispatcher.record_admission(job)
        return job

    async def _admit_with_key(
        self, principal: Principal, origin: Origin, request: JobRequest, script: Script
    ) -> Job | LiveJob:
        assert request.key is not None
        mark = fingerprint(request)
        async with self._dispatcher.keys.held(principal.name, request.key):
            known = await self._find_key(principal.name, request.key)
            if known is not None:
                return _same_request(known, mark)
            return await self.admit_whole(principal, origin, request, script, mark=mark)

    async def _find_key(self, principal: str, key: str) -> LiveJob | Record | None:
        dispatcher, moment = self._dispatcher, now()
        job_id = dispatcher.keys.find(principal, key, moment)
        if job_id is None and dispatcher.keys.is_complete:
            return None
        if job_id is not None and (live := dispatcher.jobs.in_memory(job_id)) is not None:
            return live
        return await dispatcher.store.find_key(principal, key, moment - dispatcher.keys.lifetime)


def _same_request(known: LiveJob | Record, mark: str) -> Job | LiveJob:
    if (known.extra is None or known.extra.fingerprint) != mark:
        raise Conflict("this key was used before, with another request; a new request needs a new key")
    return known if isinstance(known, LiveJob) else known.job
