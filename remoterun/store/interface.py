"""The store: what the dispatcher writes and reads. One contract suite holds for every implementation.

Writes are gathered and committed in groups. A write that nobody waits for goes with the next group;
`durable` gives a future that is done once its group is on disk. Reads see every write made before them.
All methods are called on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from remoterun.measures import StoreMeasures
from remoterun.messages import Event, Job, JobPage, JobQuery, Refusal


class KeptFile(Struct, frozen=True):
    """A file that a caller sent along, as it is kept with the job."""

    place: tuple[str | int, ...]  # of the parameter that it is for
    name: str  # under which the script finds it
    size: int  # bytes
    sha256: str


class Extra(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a job needs to run, or to run again, and what its public value does not hold."""

    stdin_base64: bytes | None = None
    timeout: float | None = None  # seconds, as the caller asked
    trace: str | None = None
    fingerprint: str | None = None  # SHA-256 of the request, where it had a key
    not_before: datetime | None = None  # a retry waits until then
    secret: bool = False  # some parameters were; their record is masked, so the call cannot be made again from it
    sealed: bytes | None = None  # the parameters, encrypted, where some are secret; gone once the job ended
    files: tuple[KeptFile, ...] = ()  # that the caller sent along


@dataclass(frozen=True, slots=True)
class Record:
    """A job as the store holds it."""

    job: Job
    extra: Extra | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of the past is kept."""

    before: datetime  # ended jobs created before this go
    jobs: int  # ended jobs kept at most
    bytes: int  # bytes kept at most


class Store(ABC):
    """Jobs and what happened to them.

    Every method that answers may raise `Unavailable`: the disk is full or broken; the text says so.
    After such an error the store tries again by itself and serves once there is room.
    """

    measures: StoreMeasures  # of its commits, since it was opened

    @abstractmethod
    async def open(self) -> None:
        """Open the store and bring its schema up to date.

        Raises:
            StoreError: it cannot be opened: corrupt, newer than this version, no permission; with what to do.
        """

    @abstractmethod
    async def close(self) -> None:
        """Commit what is pending and close."""

    @property
    @abstractmethod
    def fault(self) -> str | None:
        """Why writes fail now, or None."""

    @property
    @abstractmethod
    def backlog(self) -> int:
        """How many jobs have writes that are not on disk yet."""

    @abstractmethod
    def write(self, job: Job, extra: Extra | None, events: Sequence[Event]) -> None:
        """Record a job as it stands and add events to its log, with the next group.

        While the disk fails the write is kept in memory and tried again.
        """

    @abstractmethod
    def durable(self, job: Job, extra: Extra | None, events: Sequence[Event]) -> asyncio.Future[None]:
        """Record a job and events; the future is done once they are on disk.

        Raises (in the future):
            Unavailable: they are not on disk and will not be: the write was taken back.
        """

    @abstractmethod
    async def get(self, job_id: str) -> Record | None:
        """Give one job, or None."""

    @abstractmethod
    async def find_key(self, principal: str, key: str, since: datetime) -> Record | None:
        """Give the newest job with this idempotency key by this principal, created since then, or None."""

    @abstractmethod
    async def unfinished(self) -> list[Record]:
        """Give every job whose state is not final, oldest first."""

    @abstractmethod
    async def list_jobs(self, query: JobQuery, principal: str | None) -> list[Job]:
        """Give up to `query.limit` jobs, newest first; only this principal's, unless None. `query.text` is not read."""

    @abstractmethod
    async def search_jobs(self, query: JobQuery, principal: str | None) -> JobPage:
        """Look for a moment for up to `query.limit` jobs that mention `query.text`, newest first.

        `next` is where to go on, with jobs found or without; None where there are no more.
        """

    @abstractmethod
    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Give up to about `limit` events of a job with numbers above `after`, in order."""

    @abstractmethod
    async def last_event(self, job_id: str) -> int:
        """Give the number of a job's newest event; 0 where there is none."""

    @abstractmethod
    def refuse(self, refusal: Refusal) -> None:
        """Record a refused call, with the next group; dropped while the disk fails."""

    @abstractmethod
    async def list_refusals(self, limit: int) -> list[Refusal]:
        """Give the newest refused calls, newest first."""

    @abstractmethod
    async def copy(self, path: Path) -> None:
        """Write a copy of the whole store as it is at the end of this, while it goes on serving.

        Parameters:
            path: a file that does not exist yet.

        Raises:
            Unavailable: it cannot be written, or the store closes.
        """

    @abstractmethod
    async def prune(self, bounds: Bounds, step: int) -> list[str]:
        """Remove up to `step` ended jobs that are beyond the bounds, oldest first, and give their ids."""
