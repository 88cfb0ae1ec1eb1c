"""The log of a live job, against a plain list of everything that happened."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from remoterun.joblog import JobLog, is_final
from remoterun.messages import Event, OutputEvent, StateEvent
from remoterun.states import State

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def _output(n: int, size: int = 1) -> OutputEvent:
    return OutputEvent(job="j", n=n, time=NOON, stream="stdout", data="x" * size)


def _state(n: int, state: State, *, final: bool = False) -> StateEvent:
    return StateEvent(job="j", n=n, time=NOON, state=state, attempt=1, final=final)


def test_only_the_last_state_is_final() -> None:
    assert is_final(_state(2, State.FAILED, final=True))
    assert not is_final(_state(1, State.RUNNING))
    assert not is_final(_output(3))


def test_a_log_goes_on_where_an_earlier_node_left_it() -> None:
    log = JobLog(last=7)
    assert log.last == 7
    assert log.unstored() == ()
    assert log.after(7) == []
    assert log.after(3) is None, "the store has those"
    log.append(_output(8))
    assert log.after(7) == [_output(8)]
    assert log.after(6) is None


def test_what_the_store_was_not_given_is_never_forgotten() -> None:
    log = JobLog(most=0)
    for n in range(1, 4):
        log.append(_output(n, 1000))
    log.trim()
    assert log.after(0) == [_output(n, 1000) for n in range(1, 4)]
    log.mark_stored()
    log.append(_output(4))
    log.trim()
    assert log.after(0) is None
    assert log.after(3) == [_output(4)]


def test_the_newest_events_stay_as_far_as_there_is_room() -> None:
    log = JobLog(most=10_000)
    for n in range(1, 101):
        log.append(_output(n, 1000))
    log.mark_stored()
    log.trim()
    kept = next(n for n in range(101) if log.after(n) is not None)
    assert 90 <= kept < 100
    assert log.after(kept) == [_output(n, 1000) for n in range(kept + 1, 101)]


async def test_every_follower_is_woken() -> None:
    log = JobLog()
    followers = [asyncio.ensure_future(log.changed()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(follower.done() for follower in followers)
    log.append(_output(1))
    await asyncio.wait_for(asyncio.gather(*followers), 5)


async def test_a_follower_that_went_away_harms_nobody() -> None:
    log = JobLog()
    gone, stays = asyncio.ensure_future(log.changed()), asyncio.ensure_future(log.changed())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    log.append(_output(1))
    await asyncio.wait_for(stays, 5)
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_follower_sees_each_event_once_and_in_order() -> None:
    log = JobLog()
    seen: list[int] = []

    async def follow() -> None:
        after = 0
        while after < 50:
            batch = log.after(after)
            assert batch is not None
            for event in batch:
                seen.append(event.n)
                after = event.n
            if log.last <= after < 50:
                await log.changed()

    following = asyncio.ensure_future(follow())
    for n in range(1, 51):
        log.append(_output(n))
        if n % 7 == 0:
            await asyncio.sleep(0)
    await asyncio.wait_for(following, 5)
    assert seen == list(range(1, 51))


class LogModel(RuleBasedStateMachine):
    """Append, give to the store, forget; memory and store together always hold everything."""

    @initialize(last=st.integers(0, 3), most=st.sampled_from([0, 500, 2000, 2**18]))
    def begin(self, last: int, most: int) -> None:
        self.log = JobLog(last, most)
        self.start = last
        self.stored: list[Event] = []
        self.all: list[Event] = []

    @rule(size=st.integers(0, 900))
    def append(self, size: int) -> None:
        event = _output(self.start + len(self.all) + 1, size)
        self.log.append(event)
        self.all.append(event)

    @rule()
    def store(self) -> None:
        assert list(self.log.unstored()) == self.all[len(self.stored) :]
        self.log.mark_stored()
        self.stored = list(self.all)
        assert self.log.unstored() == ()

    @rule(most=st.none() | st.integers(0, 3000))
    def trim(self, most: int | None) -> None:
        self.log.trim(most)

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        after = data.draw(st.integers(0, self.start + len(self.all) + 2))
        batch = self.log.after(after)
        if batch is None:  # the store has the oldest of them
            assert after < self.start + len(self.stored)
        else:
            assert batch == self.all[max(0, after - self.start) :]

    @invariant()
    def what_is_not_stored_is_in_memory(self) -> None:
        if hasattr(self, "log"):
            stored = self.start + len(self.stored)
            assert self.log.after(stored) == self.all[len(self.stored) :]
            assert self.log.last == self.start + len(self.all)


TestLogModel = LogModel.TestCase
TestLogModel.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
