"""Writes gather by job; those that are awaited stay apart, so that they can be taken back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from remoterun.messages import Event, Job, StateEvent
from remoterun.states import State
from remoterun.store.interface import Extra
from remoterun.store.pending import Pending, Steps

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def job(name: str, attempt: int) -> Job:
    return Job(
        id=name,
        script="s",
        version="v",
        state=State.RUNNING,
        attempt=attempt,
        created=NOW,
        principal="ada",
        transport="t",
        node="n",
    )


def event(name: str, n: int) -> list[Event]:
    return [StateEvent(job=name, n=n, time=NOW, state=State.RUNNING, attempt=1)]


def add(pending: Pending, name: str, n: int) -> None:
    pending.add(job(name, n), Extra(timeout=n), event(name, n))


async def add_durable(pending: Pending, name: str, n: int) -> None:
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    pending.add_durable(job(name, n), Extra(timeout=n), event(name, n), waiter)


def look(pending: Pending) -> dict[str, list[tuple[int, list[int], bool]]]:
    """Give, for each job, its steps: the attempt that stands for the value, event numbers, whether awaited."""
    for steps in pending.jobs.values():
        for step in steps:
            assert step.extra == Extra(timeout=step.job.attempt)
    return {
        name: [(step.job.attempt, [event.n for event in step.events], step.waiter is not None) for step in steps]
        for name, steps in pending.jobs.items()
    }


def take(pending: Pending) -> list[Steps]:
    taken = list(pending.jobs.values())
    pending.jobs = {}
    return taken


async def test_writes_of_a_job_merge_unless_they_are_awaited() -> None:
    pending = Pending()
    add(pending, "a", 1)
    add(pending, "a", 2)
    await add_durable(pending, "a", 3)
    await add_durable(pending, "a", 4)
    add(pending, "a", 5)
    add(pending, "a", 6)
    add(pending, "b", 1)
    assert look(pending) == {
        "a": [(2, [1, 2], False), (3, [3], True), (4, [4], True), (6, [5, 6], False)],
        "b": [(1, [1], False)],
    }


async def test_a_list_of_events_may_be_used_again_by_its_owner() -> None:
    pending = Pending()
    given = event("a", 1)
    pending.add(job("a", 1), Extra(timeout=1), given)
    given.clear()
    assert look(pending) == {"a": [(1, [1], False)]}


async def test_a_failed_group_loses_its_awaited_writes_and_keeps_the_others_in_order() -> None:
    pending = Pending()
    add(pending, "a", 1)
    await add_durable(pending, "a", 2)
    add(pending, "b", 1)
    await add_durable(pending, "c", 1)
    failed = take(pending)
    add(pending, "d", 1)
    await add_durable(pending, "c", 1)
    add(pending, "a", 2)
    pending.put_back(failed)
    assert look(pending) == {
        "a": [(2, [1, 2], False)],
        "b": [(1, [1], False)],
        "d": [(1, [1], False)],
        "c": [(1, [1], True)],
    }


async def test_what_is_put_back_again_and_again_stays_one_step() -> None:
    pending = Pending()
    for n in range(1, 6):
        add(pending, "a", n)
        failed = take(pending)
        pending.put_back(failed)
    assert look(pending) == {"a": [(5, [1, 2, 3, 4, 5], False)]}
