"""Ids: UUIDv7, in order, whatever the clock does."""

from __future__ import annotations

import time
import uuid
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun import ids


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last_time", 0)
    monkeypatch.setattr(ids, "_last_random", 0)


def test_an_id_is_a_uuid_of_version_7() -> None:
    made = uuid.UUID(ids.new_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_an_id_holds_its_time() -> None:
    before = time.time_ns() // 1_000_000
    made = ids.new_id()
    after = time.time_ns() // 1_000_000
    assert before <= int(made.replace("-", "")[:12], 16) <= after


def test_ids_come_in_order_and_once() -> None:
    made = [ids.new_id() for _ in range(20_000)]
    assert made == sorted(set(made))


@given(steps=st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=50))
def test_ids_come_in_order_if_the_clock_steps_back(steps: list[int]) -> None:
    milliseconds = 1_800_000_000_000
    made = []
    with pytest.MonkeyPatch.context() as patch:
        for step in steps:
            milliseconds += step
            patch.setattr(time, "time_ns", lambda now=milliseconds: now * 1_000_000)
            made.append(ids.new_id())
    assert made == sorted(set(made))
    assert {uuid.UUID(one).version for one in made} == {7}


def test_a_millisecond_that_runs_full_borrows_from_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000 * 1_000_000)
    first = ids.new_id()
    monkeypatch.setattr(ids, "_last_random", (1 << 74) - 1)
    second, third = ids.new_id(), ids.new_id()
    assert first < second < third
    assert {uuid.UUID(one).version for one in (first, second, third)} == {7}


def test_ids_of_one_millisecond_cannot_be_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000 * 1_000_000)
    made = [int(ids.new_id().replace("-", ""), 16) for _ in range(100)]
    steps = {later - before for before, later in pairwise(made)}
    assert len(steps) == 99
    assert min(steps) >= 1
