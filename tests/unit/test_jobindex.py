"""Pages of jobs while jobs end: each is shown once, as it is."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from remoterun.jobindex import JobIndex
from remoterun.messages import Job, JobQuery
from remoterun.states import State

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def _job(number: int, state: State) -> Job:
    return Job(
        id=f"job {number}",
        script="s",
        version="v",
        state=state,
        attempt=1,
        created=NOON,
        principal="ada",
        transport="t",
        node="n",
    )


class _Live:
    """What the index needs of a live job."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = f"job {number}"
        self.state = State.RUNNING
        self.is_void = False
        self.log = SimpleNamespace(trim=lambda most: None)

    def snapshot(self) -> Job:
        return _job(self.number, self.state)


class _Store:
    """A store whose answer is as old as its beginning, while something happens."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.meanwhile: Any = lambda: None

    async def list_jobs(self, query: JobQuery, principal: str | None) -> list[Job]:
        answer = [job for job in self.jobs if query.state is None or job.state == query.state]
        self.meanwhile()
        return answer


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_job_that_ends_during_the_read_is_shown_as_it_is(is_stored: bool) -> None:
    live = _Live(1)
    store = _Store([live.snapshot()] if is_stored else [])
    index = JobIndex(store)  # type: ignore[arg-type]
    index.add(live)  # type: ignore[arg-type]

    def end() -> None:
        live.state = State.SUCCEEDED
        index.ended(live)  # type: ignore[arg-type]

    store.meanwhile = end
    assert (await index.page(JobQuery(), None)).jobs == (_job(1, State.SUCCEEDED),)


async def test_a_job_that_ends_during_the_read_is_not_shown_in_its_old_state() -> None:
    live = _Live(1)
    store = _Store([live.snapshot()])
    index = JobIndex(store)  # type: ignore[arg-type]
    index.add(live)  # type: ignore[arg-type]

    def end() -> None:
        live.state = State.FAILED
        index.ended(live)  # type: ignore[arg-type]

    store.meanwhile = end
    assert (await index.page(JobQuery(state=State.RUNNING), None)).jobs == ()


async def test_a_job_that_never_was_is_not_shown() -> None:
    live = _Live(1)
    store = _Store([])
    index = JobIndex(store)  # type: ignore[arg-type]
    index.add(live)  # type: ignore[arg-type]

    def void() -> None:
        live.is_void = True
        index.forget(live)  # type: ignore[arg-type]

    store.meanwhile = void
    assert (await index.page(JobQuery(), None)).jobs == ()
