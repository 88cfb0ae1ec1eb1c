"""Idempotency keys: what is the same request, what is remembered, and one caller at a time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.keys import RecentKeys, fingerprint
from remoterun.messages import JobRequest

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reordered(value[key]) for key in reversed(value)}
    return [_reordered(item) for item in value] if isinstance(value, list) else value


@given(params=st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_order_key_and_trace_do_not_count(params: dict[str, Any]) -> None:
    one = JobRequest(script="a", params=params, key="k", trace="t")
    other = JobRequest(script="a", params=_reordered(params), key="other")
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    "other",
    [
        JobRequest(script="b", params={"x": 1}),
        JobRequest(script="a", params={"x": 2}),
        JobRequest(script="a", params={"x": "1"}),
        JobRequest(script="a", params={"x": 1.5}),
        JobRequest(script="a", params={"x": [1]}),
        JobRequest(script="a", params={"x": 1, "y": None}),
        JobRequest(script="a"),
        JobRequest(script="a", args=("x", "1")),
        JobRequest(script="a", params={"x": 1}, timeout=1.0),
        JobRequest(script="a", params={"x": 1}, stdin=""),
        JobRequest(script="a", params={"x": 1}, stdin_base64=b"\xff"),
    ],
)
def test_everything_else_counts(other: JobRequest) -> None:
    assert fingerprint(JobRequest(script="a", params={"x": 1})) != fingerprint(other)


def test_args_are_told_apart_by_their_bounds() -> None:
    assert fingerprint(JobRequest(script="a", args=("x y",))) != fingerprint(JobRequest(script="a", args=("x", "y")))


def test_a_key_stands_for_its_job_for_a_day() -> None:
    keys = RecentKeys()
    keys.add("ada", "k", "job", NOON)
    assert keys.find("ada", "k", NOON) == "job"
    assert keys.find("ada", "k", NOON + timedelta(hours=24)) == "job"
    assert keys.find("ada", "k", NOON + timedelta(hours=24, seconds=1)) is None
    assert keys.find("bob", "k", NOON) is None
    assert keys.find("ada", "K", NOON) is None


def test_a_key_and_its_principal_are_not_run_together() -> None:
    keys = RecentKeys()
    keys.add("a", "b:c", "job", NOON)
    assert keys.find("a:b", "c", NOON) is None


def test_old_keys_are_forgotten_and_nothing_is_missed_by_that() -> None:
    keys = RecentKeys(is_complete=True)
    keys.add("ada", "old", "1", NOON)
    keys.add("ada", "new", "2", NOON + timedelta(hours=25))
    assert keys.find("ada", "old", NOON) is None
    assert keys.is_complete


def test_what_memory_does_not_hold_is_left_to_the_store() -> None:
    keys = RecentKeys(is_complete=True, most=2)
    for number in range(3):
        keys.add("ada", str(number), f"job {number}", NOON)
    assert [keys.find("ada", str(number), NOON) for number in range(3)] == [None, "job 1", "job 2"]
    assert not keys.is_complete


async def test_one_caller_at_a_time_with_a_key() -> None:
    keys = RecentKeys()
    inside: list[int] = []
    most = 0

    async def hold(number: int) -> None:
        nonlocal most
        async with keys.held("ada", "k"):
            inside.append(number)
            most = max(most, len(inside))
            await asyncio.sleep(0)
            inside.remove(number)

    await asyncio.gather(*(hold(number) for number in range(20)))
    assert most == 1


async def test_other_keys_do_not_wait() -> None:
    keys = RecentKeys()
    async with keys.held("ada", "k"), keys.held("ada", "other"), keys.held("bob", "k"):
        pass


async def test_a_holder_that_fails_or_is_cancelled_lets_the_next_one_in() -> None:
    keys = RecentKeys()
    with pytest.raises(ZeroDivisionError):
        async with keys.held("ada", "k"):
            raise ZeroDivisionError
    async with keys.held("ada", "k"):
        waiting = asyncio.ensure_future(_hold(keys))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await asyncio.wait_for(_hold(keys), 5)


async def _hold(keys: RecentKeys) -> None:
    async with keys.held("ada", "k"):
        pass
