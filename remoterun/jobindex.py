"""Where a job is found: in memory while it is live and a moment longer, else in the store."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from remoterun.errors import Invalid, NotFound
from remoterun.messages import Job, JobPage, JobQuery
from remoterun.store.interface import Record, Store

if TYPE_CHECKING:
    from remoterun.live import LiveJob

_RECENT = 512  # ended jobs kept in memory
_RECENT_LOG = 2**14  # bytes of log kept in memory of each of them
_LARGEST_PAGE = 1000  # jobs


class JobIndex:
    """All jobs by id.

    Parameters:
        store: it has every job that is not in memory, and older states of those that are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._live: dict[str, LiveJob] = {}
        self._recent: OrderedDict[str, LiveJob] = OrderedDict()

    def add(self, job: LiveJob) -> None:
        """Take a new job in."""
        self._live[job.id] = job

    def forget(self, job: LiveJob) -> None:
        """Drop a job that never was."""
        self._live.pop(job.id, None)

    def ended(self, job: LiveJob) -> None:
        """Keep an ended job for those who ask soon, with little of its log."""
        job.log.trim(_RECENT_LOG)
        self._live.pop(job.id, None)
        self._recent[job.id] = job
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def live(self) -> list[LiveJob]:
        """List the jobs that have not ended."""
        return list(self._live.values())

    def in_memory(self, job_id: str) -> LiveJob | None:
        """Give a job that is waiting, running, or ended a moment ago."""
        return self._live.get(job_id) or self._recent.get(job_id)

    async def find(self, job_id: str) -> LiveJob | Record:
        """Give a job.

        Raises:
            NotFound: there is none with this id.
        """
        job = self.in_memory(job_id)
        if job is not None:
            return job
        record = await self._store.get(job_id)
        if record is None:
            raise NotFound(f"there is no job {job_id[:64]}")
        return record

    async def record(self, job_id: str) -> Record:
        """Give a job as a record, live or not.

        Raises:
            NotFound: there is none with this id.
        """
        found = await self.find(job_id)
        return found if isinstance(found, Record) else Record(found.snapshot(), found.extra)

    async def page(self, query: JobQuery, principal: str | None) -> JobPage:
        """Give a page of jobs: what the store holds, under what is in memory and newer.

        Raises:
            Invalid: the page's size is out of bounds.
        """
        if not 1 <= query.limit <= _LARGEST_PAGE:
            raise Invalid(f"a page has 1 to {_LARGEST_PAGE} jobs")
        if principal is not None and query.principal not in (None, principal):
            return JobPage(jobs=())
        live_jobs = dict(self._live)  # one that ends during the read is in neither, or as it was
        found, oldest = await self._stored(query, principal or query.principal)
        live_jobs |= self._live
        for live in live_jobs.values():
            found.pop(live.id, None)
            if not live.is_void and live.id >= oldest and _matches(job := live.snapshot(), query, principal):
                found[job.id] = job
        jobs = sorted(found.values(), key=lambda job: job.id, reverse=True)[: query.limit]
        if len(jobs) < query.limit:
            return JobPage(jobs=tuple(jobs), next=oldest or None)
        return JobPage(jobs=tuple(jobs), next=jobs[-1].id)

    async def _stored(self, query: JobQuery, principal: str | None) -> tuple[dict[str, Job], str]:
        """Give jobs of the store, and the id below which a later page goes on, or nothing."""
        if query.text:
            page = await self._store.search_jobs(query, principal)
            return {job.id: job for job in page.jobs}, page.next or ""
        found = {job.id: job for job in await self._store.list_jobs(query, principal)}
        return found, min(found) if len(found) == query.limit else ""


def _matches(job: Job, query: JobQuery, principal: str | None) -> bool:
    return (
        (principal is None or job.principal == principal)
        and (query.principal is None or job.principal == query.principal)
        and (query.script is None or job.script == query.script)
        and (query.state is None or job.state == query.state)
        and (query.since is None or job.created >= query.since)
        and (query.until is None or job.created < query.until)
        and (query.before is None or job.id < query.before)
        and (not query.text or job.mentions(query.text))
    )
