"""The queue of waiting jobs, against a list that does the same slowly."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remoterun.waiting import WaitingJobs

LIMITS = {"one": 1, "two": 2, "any": 0, "other": 0}


@dataclass(eq=False)
class Waiter:
    group: str
    is_waiting: bool = True


def test_jobs_come_out_in_the_order_in_which_they_came() -> None:
    waiting: WaitingJobs[Waiter] = WaitingJobs()
    jobs = [Waiter(name) for name in ("any", "other", "any", "other", "other", "any")]
    for job in jobs:
        waiting.push(job, 0)
    assert [waiting.pop() for _ in jobs] == jobs
    assert waiting.pop() is None
    assert len(waiting) == 0


def test_a_script_at_its_limit_lets_others_pass() -> None:
    waiting: WaitingJobs[Waiter] = WaitingJobs()
    first, second, other = Waiter("one"), Waiter("one"), Waiter("any")
    for job in (first, second, other):
        waiting.push(job, LIMITS[job.group])
    assert [waiting.pop(), waiting.pop(), waiting.pop()] == [first, other, None]
    waiting.ended("one")
    assert waiting.pop() is second


def test_a_cancelled_job_bars_nobody_s_way() -> None:
    waiting: WaitingJobs[Waiter] = WaitingJobs()
    waiting.started("one", 1)
    gone = Waiter("one")
    waiting.push(gone, 1)
    gone.is_waiting = False
    waiting.cancelled()
    waiting.ended("one")
    assert len(waiting) == 0
    assert waiting.can_start("one", 1)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_cancelled_job_never_comes_out(place: int) -> None:
    waiting: WaitingJobs[Waiter] = WaitingJobs()
    jobs = [Waiter("any") for _ in range(3)]
    for job in jobs:
        waiting.push(job, 0)
    jobs[place].is_waiting = False
    waiting.cancelled()
    left = [job for job in jobs if job.is_waiting]
    assert len(waiting) == 2
    assert [waiting.pop(), waiting.pop(), waiting.pop()] == [*left, None]


class WaitingModel(RuleBasedStateMachine):
    """Do what the dispatcher does, beside a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: WaitingJobs[Waiter] = WaitingJobs()
        self.queue: list[Waiter] = []
        self.running: list[str] = []

    def has_room(self, group: str) -> bool:
        return not LIMITS[group] or self.running.count(group) < LIMITS[group]

    @rule(group=st.sampled_from(sorted(LIMITS)), has_worker=st.booleans())
    def arrive(self, group: str, has_worker: bool) -> None:
        may_start = self.waiting.can_start(group, LIMITS[group])
        assert may_start == (self.has_room(group) and not any(job.group == group for job in self.queue))
        if may_start and has_worker:
            self.waiting.started(group, LIMITS[group])
            self.running.append(group)
        else:
            job = Waiter(group)
            self.waiting.push(job, LIMITS[group])
            self.queue.append(job)

    @rule()
    def take(self) -> None:
        expected = next((job for job in self.queue if self.has_room(job.group)), None)
        assert self.waiting.pop() is expected
        if expected is not None:
            self.queue.remove(expected)
            self.running.append(expected.group)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        group = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.waiting.ended(group)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        job.is_waiting = False
        self.waiting.cancelled()

    @invariant()
    def counts(self) -> None:
        assert len(self.waiting) == len(self.queue)


TestWaitingModel = WaitingModel.TestCase
TestWaitingModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
