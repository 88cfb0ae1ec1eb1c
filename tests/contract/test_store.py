"""What holds for every store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw, structs

from remoterun.errors import Internal, Invalid, Unavailable
from remoterun.messages import (
    ArtifactInfo,
    Event,
    Job,
    JobError,
    JobQuery,
    OutputEvent,
    Progress,
    ProgressEvent,
    Refusal,
    StateEvent,
)
from remoterun.states import State
from remoterun.store.interface import Bounds, Extra, Record, Store
from remoterun.store.sqlite import SqliteStore

START = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
NO_BOUNDS = Bounds(before=datetime(1971, 1, 1, tzinfo=UTC), jobs=10**9, bytes=10**15)


def _sqlite(folder: Path) -> Store:
    return SqliteStore(folder / "store.sqlite3")


STORES = {"sqlite": _sqlite}


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Give a maker of stores that all hold the same jobs."""
    return lambda: STORES[request.param](tmp_path)


@asynccontextmanager
async def opened(make: Callable[[], Store]) -> AsyncIterator[Store]:
    store = make()
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(make: Callable[[], Store]) -> AsyncIterator[Store]:
    async with opened(make) as store:
        yield store


def job_id(second: float, salt: int = 0) -> str:
    """Give a UUIDv7 made so many seconds after START."""
    digits = f"{int(START.timestamp() * 1000 + second * 1000):012x}7{salt:03x}8{salt:015x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def job(
    second: float = 0,
    state: State = State.QUEUED,
    *,
    salt: int = 0,
    script: str = "hello",
    principal: str = "ada",
    key: str | None = None,
    artifacts: tuple[ArtifactInfo, ...] = (),
    **more: Any,
) -> Job:
    created = START + timedelta(seconds=second)
    return Job(
        id=job_id(second, salt),
        script=script,
        version="0" * 64,
        state=state,
        attempt=1,
        created=created,
        started=created,
        ended=created if state not in (State.QUEUED, State.RUNNING) else None,
        principal=principal,
        transport="socket",
        node="here",
        key=key,
        artifacts=artifacts,
        **more,
    )


def moved(old: Job, state: State) -> Job:
    return job((old.created - START).total_seconds(), state, script=old.script, principal=old.principal, key=old.key)


def states(of: Job, first: int, count: int) -> list[Event]:
    return [StateEvent(job=of.id, n=n, time=START, state=State.RUNNING, attempt=1) for n in range(first, first + count)]


async def test_a_durable_write_is_there_after_reopening(make: Callable[[], Store]) -> None:
    extra = Extra(stdin_base64=b"\x00\xff", timeout=1.5, trace="t", fingerprint="f", not_before=START)
    async with opened(make) as store:
        await store.durable(job(), extra, states(job(), 1, 2))
    async with opened(make) as store:
        assert await store.get(job().id) == Record(job(), extra)
        assert await store.events(job().id, 0, 10) == states(job(), 1, 2)


async def test_what_nobody_awaited_is_there_after_closing(make: Callable[[], Store]) -> None:
    async with opened(make) as store:
        store.write(job(), None, states(job(), 1, 1))
        assert store.backlog == 1
    async with opened(make) as store:
        assert await store.get(job().id) == Record(job(), None)


async def test_reads_see_every_write_made_before_them(store: Store) -> None:
    for n in range(1, 200):
        value = moved(job(), random.choice(list(State)))
        store.write(value, None, states(value, n, 1))
        if n % 7 == 0:
            await asyncio.sleep(0)
        if n % 3 == 0:
            found = await store.get(value.id)
            assert found is not None
            assert found.job == value
            assert [event.n for event in await store.events(value.id, 0, 1000)] == list(range(1, n + 1))
    assert store.backlog <= 1


async def test_the_last_of_several_writes_counts_and_all_their_events_stay(store: Store) -> None:
    store.write(job(), Extra(timeout=1), states(job(), 1, 1))
    submitted = store.durable(moved(job(), State.RUNNING), Extra(timeout=2), states(job(), 2, 1))
    store.write(moved(job(), State.SUCCEEDED), None, states(job(), 3, 1))
    await submitted
    store.write(moved(job(), State.FAILED), Extra(timeout=3), states(job(), 4, 1))
    assert await store.get(job().id) == Record(moved(job(), State.FAILED), Extra(timeout=3))
    assert await store.events(job().id, 0, 10) == states(job(), 1, 4)


async def test_an_unknown_job_has_nothing(store: Store) -> None:
    assert await store.get(job_id(1)) is None
    assert await store.events(job_id(1), 0, 10) == []
    assert await store.find_key("ada", "k", START) is None
    assert await store.unfinished() == []
    assert await store.list_jobs(JobQuery(), None) == []
    assert await store.list_refusals(10) == []
    assert store.fault is None
    assert store.backlog == 0


async def test_every_value_comes_back_as_it_was(store: Store) -> None:
    full = Job(
        id=job_id(0),
        script="reports/daily\x00ü",
        version="0" * 64,
        state=State.FAILED,
        attempt=3,
        params_json=Raw(b'{"nul":"\\u0000","lone":"\\ud800","big":123456789012345678901234567890,"x":1.0}'),
        result_json=Raw(b'[NaN,1e400,"\\udcff"]'),
        error=JobError(type="E", message="a\x00b\n\u2028\U0001f600", traceback="…"),
        exit_code=-9,
        created=START,
        started=START + timedelta(microseconds=1),
        ended=START + timedelta(days=1),
        principal="a\x00da",
        transport="http",
        node="n",
        progress=Progress(1.5, None, "\x00"),
        artifacts=(ArtifactInfo(name="a/b\x00", size=2**40, media_type="x/y"),),
        key="k\x00é",
        rerun_of=job_id(9),
    )
    log: list[Event] = [
        OutputEvent(job=full.id, n=1, time=START, stream="stdout", data="NUL \x00 and \U0001f600"),
        OutputEvent(job=full.id, n=2, time=START, stream="stderr", data_base64=b"\xed\xa0\x80\xff\x00"),
        ProgressEvent(job=full.id, n=3, time=START, done=0.1, message="a\x00"),
    ]
    store.write(full, None, log)
    assert await store.get(full.id) == Record(full, None)
    assert await store.events(full.id, 0, 10) == log
    assert await store.find_key("a\x00da", "k\x00é", START) == Record(full, None)
    assert await store.list_jobs(JobQuery(script="reports/daily\x00ü"), "a\x00da") == [full]


async def test_one_job_that_cannot_be_written_spoils_no_other(store: Store) -> None:
    bad = job(1, principal="\udcff")
    rejected = store.durable(bad, None, states(bad, 1, 1))
    accepted = store.durable(job(2), None, states(job(2), 1, 1))
    store.write(job(3, script="\ud800"), None, [])
    store.write(job(4), None, [])
    await accepted
    with pytest.raises(Internal, match="cannot be recorded"):
        await rejected
    assert [found.id for found in await store.list_jobs(JobQuery(), None)] == [job_id(4), job_id(2)]
    assert store.backlog == 0


async def test_a_question_that_no_record_can_meet_is_invalid(store: Store) -> None:
    for question in (
        store.get("\udcff"),
        store.events(job_id(0), 2**70, 10),
        store.list_jobs(JobQuery(script="\ud800"), None),
        store.find_key("ada", "\udcff", START),
    ):
        with pytest.raises(Invalid, match="no record can hold"):
            await question
    assert store.fault is None


async def test_events_are_read_from_a_number_on(store: Store) -> None:
    written = 0
    for count in (1, 3, 64, 65, 200, 1):
        store.write(job(), None, states(job(), written + 1, count))
        await store.get(job().id)  # ends the group
        written += count
    for after in (0, 1, 2, 4, 67, 68, 69, 300, written - 1, written):
        found = [event.n for event in await store.events(job().id, after, 70)]
        assert found == list(range(after + 1, min(after + 70, written) + 1))


async def test_unfinished_gives_what_is_not_final_oldest_first(store: Store) -> None:
    every = [(second, state) for second, state in enumerate([*State] * 3)]
    random.shuffle(every)
    for second, state in every:
        store.write(job(second, state), Extra(timeout=second), [])
    found = await store.unfinished()
    expected = sorted(second for second, state in every if state in (State.QUEUED, State.RUNNING))
    assert [record.job.id for record in found] == [job_id(second) for second in expected]
    assert [record.extra for record in found] == [Extra(timeout=second) for second in expected]


async def test_a_key_finds_the_newest_job_of_that_principal(store: Store) -> None:
    store.write(job(1, key="k"), None, [])
    store.write(job(2, key="k"), None, [])
    store.write(job(3, key="k", principal="bob"), None, [])
    store.write(job(4, key="other"), None, [])
    found = await store.find_key("ada", "k", START)
    assert found is not None
    assert found.job.id == job_id(2)
    assert await store.find_key("ada", "k", START + timedelta(seconds=2)) == found
    assert await store.find_key("ada", "k", START + timedelta(seconds=2, microseconds=1)) is None
    assert await store.find_key("eve", "k", START) is None


async def test_pages_are_newest_first_and_filtered_as_asked(store: Store) -> None:
    everything = [
        job(second, state, salt=salt, script=script, principal=principal)
        for second in range(0, 60, 15)
        for salt, (state, script, principal) in enumerate(
            (state, script, principal)
            for state in (State.SUCCEEDED, State.FAILED, State.QUEUED)
            for script in ("a", "b")
            for principal in ("ada", "bob")
        )
    ]
    random.shuffle(everything)
    for value in everything:
        store.write(value, None, [])
    everything.sort(key=lambda value: value.id, reverse=True)
    at = START + timedelta(seconds=15)
    for script in (None, "a", "none"):
        for state in (None, State.SUCCEEDED, State.FAILED, State.LOST):
            for principal in (None, "ada"):
                for since, until in ((None, None), (at, None), (None, at), (at, at + timedelta(seconds=15))):
                    expected = [
                        value
                        for value in everything
                        if script in (None, value.script)
                        and state in (None, value.state)
                        and principal in (None, value.principal)
                        and (since is None or since <= value.created)
                        and (until is None or value.created < until)
                    ]
                    found: list[Job] = []
                    before = None
                    while True:
                        query = JobQuery(script=script, state=state, since=since, until=until, before=before, limit=5)
                        page = await store.list_jobs(query, principal)
                        found += page
                        if len(page) < 5:
                            break
                        before = page[-1].id
                    assert found == expected


async def test_a_few_jobs_among_thousands_are_found(store: Store) -> None:
    found: list[Job] = []
    for second in range(6000):  # half is of the script, half failed, and hardly any is both
        both = second % 1900 == 100
        script, state = ("rare", State.FAILED) if both else [("rare", State.LOST), ("b", State.FAILED)][second % 2]
        value = job(second, state, script=script)
        store.write(value, None, [])
        if both:
            found.insert(0, value)
    assert len(found) == 4
    assert await store.list_jobs(JobQuery(script="rare", state=State.FAILED), "ada") == found
    assert await store.list_jobs(JobQuery(script="rare", state=State.FAILED, limit=2), None) == found[:2]
    assert await store.list_jobs(JobQuery(script="rare", state=State.FAILED, before=found[1].id), None) == found[2:]


async def test_jobs_that_mention_a_text_are_found(store: Store) -> None:
    said = [
        job(0, State.SUCCEEDED, params_json=Raw(b'{"day":"2026-11-01"}')),
        job(1, State.FAILED, error=JobError(type="KeyError", message="No Such Day")),
        job(2, State.SUCCEEDED, result_json=Raw('{"name":"Zoë \\"Z\\" 100%"}'.encode())),
        job(3, State.SUCCEEDED, args=("--flag", "a_b")),
        job(4, State.SUCCEEDED, principal="bob", key="special"),
    ]
    for value in said:
        store.write(value, None, [])
    for text, expected in (
        ("DAY", [said[1], said[0]]),
        ("such day", [said[1]]),
        ("ZOË", [said[2]]),
        ('"z" 100%', [said[2]]),
        ("a_b", [said[3]]),
        ("axb", []),
        ("SPECIAL", [said[4]]),
        (said[3].id, [said[3]]),
        ("created", []),  # a name of the record's own is said by none
    ):
        page = await store.search_jobs(JobQuery(text=text), None)
        assert (page.jobs, page.next) == (tuple(expected), None), text
    assert (await store.search_jobs(JobQuery(text="special"), "ada")).jobs == ()
    first = await store.search_jobs(JobQuery(text="day", limit=1), None)
    assert first.jobs == (said[1],)
    assert (await store.search_jobs(JobQuery(text="day", before=first.next), None)).jobs == (said[0],)


async def test_a_search_answers_in_time_and_says_where_to_go_on(store: Store) -> None:
    store.write(job(0, State.SUCCEEDED, key="needle"), None, [])
    for second in range(1, 60_000):
        store.write(job(second, State.SUCCEEDED), None, [])
    query = JobQuery(text="needle")
    page = await store.search_jobs(query, None)
    assert page.jobs == ()
    assert page.next is not None
    while page.next is not None and not page.jobs:
        page = await store.search_jobs(structs.replace(query, before=page.next), None)
    assert [found.key for found in page.jobs] == ["needle"]


async def test_refused_calls_are_listed_newest_first(store: Store) -> None:
    refused = [
        Refusal(
            time=START, principal=None, transport="http", operation="run", script=f"s{n}", code="busy", message="\x00"
        )
        for n in range(5)
    ]
    for refusal in refused:
        store.refuse(refusal)
    assert await store.list_refusals(3) == refused[:1:-1]
    assert await store.list_refusals(10) == refused[::-1]


async def test_pruning_by_age_leaves_what_is_younger_or_unfinished(store: Store) -> None:
    store.write(job(0, State.RUNNING), None, [])
    for second in range(1, 6):
        store.write(job(second, State.SUCCEEDED), None, states(job(second), 1, 2))
    bounds = Bounds(before=START + timedelta(seconds=4), jobs=100, bytes=10**9)
    assert await store.prune(bounds, 2) == [job_id(1), job_id(2)]
    assert await store.prune(bounds, 2) == [job_id(3)]
    assert await store.prune(bounds, 2) == []
    assert [left.id for left in await store.list_jobs(JobQuery(), None)] == [job_id(5), job_id(4), job_id(0)]
    assert await store.events(job_id(3), 0, 10) == []
    assert len(await store.events(job_id(4), 0, 10)) == 2


async def test_pruning_by_count_takes_the_oldest_that_ended(store: Store) -> None:
    for second in range(6):
        store.write(job(second, State.QUEUED), None, [])
        if second % 2 == 0:
            await store.get(job_id(second))
        store.write(job(second, State.QUEUED if second in (0, 3) else State.FAILED), None, [])
    store.write(job(5, State.FAILED), None, [])  # counted once
    bounds = Bounds(before=NO_BOUNDS.before, jobs=1, bytes=10**9)
    assert await store.prune(bounds, 100) == [job_id(1), job_id(2), job_id(4)]
    assert await store.prune(bounds, 100) == []
    assert [left.id for left in await store.list_jobs(JobQuery(), None)] == [job_id(5), job_id(3), job_id(0)]


async def test_pruning_by_bytes_counts_logs_and_artifacts(store: Store) -> None:
    large = ArtifactInfo(name="x", size=10_000_000, media_type="x/y")
    store.write(job(0, State.QUEUED, artifacts=(large,)), None, [])
    store.write(job(1, State.SUCCEEDED, artifacts=(large,)), None, [])
    output = OutputEvent(job=job_id(2), n=1, time=START, stream="stdout", data="x" * 10_000_000)
    store.write(job(2), None, [output])
    await store.get(job_id(2))
    store.write(job(2, State.SUCCEEDED), None, states(job(2), 2, 1))
    store.write(job(3, State.SUCCEEDED), None, [])
    assert await store.prune(Bounds(before=NO_BOUNDS.before, jobs=100, bytes=21_000_000), 100) == []
    assert await store.prune(Bounds(before=NO_BOUNDS.before, jobs=100, bytes=19_000_000), 100) == [job_id(1)]
    assert await store.prune(Bounds(before=NO_BOUNDS.before, jobs=100, bytes=9_000_000), 100) == [job_id(2)]
    assert await store.prune(NO_BOUNDS, 100) == []


async def test_pruning_goes_on_after_reopening(make: Callable[[], Store]) -> None:
    async with opened(make) as store:
        for second in range(10):
            store.write(job(second, State.SUCCEEDED), None, [])
    async with opened(make) as store:
        assert len(await store.prune(Bounds(before=NO_BOUNDS.before, jobs=4, bytes=10**9), 100)) == 6


async def test_a_waiter_that_was_cancelled_hurts_nobody(store: Store) -> None:
    gone = store.durable(job(1), None, [])
    stays = store.durable(job(2), None, [])
    gone.cancel()
    await stays
    assert await store.get(job_id(1)) is not None


async def test_closing_twice_and_asking_afterwards_are_harmless(make: Callable[[], Store]) -> None:
    store = make()
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(Unavailable, match="stopping"):
        await store.get(job_id(1))
    with pytest.raises(Unavailable, match="stopping"):
        await store.durable(job(), None, [])


async def test_many_writers_at_once_lose_nothing(store: Store) -> None:
    async def writer(number: int) -> None:
        for second in range(20):
            value = job(second, salt=number)
            await store.durable(value, None, states(value, 1, 1))
            store.write(job(second, State.SUCCEEDED, salt=number), None, states(value, 2, 1))

    async with asyncio.TaskGroup() as tasks:
        for number in range(16):
            tasks.create_task(writer(number))
    assert len(await store.list_jobs(JobQuery(state=State.SUCCEEDED, limit=1000), None)) == 320
    assert [event.n for event in await store.events(job_id(19, 15), 0, 10)] == [1, 2]


def printed(second: float, text: str) -> OutputEvent:
    return OutputEvent(job=job_id(second), n=1, time=START, stream="stdout", data=text)


async def test_a_copy_is_a_store_of_its_own(store: Store, tmp_path: Path) -> None:
    await store.durable(job(1), Extra(trace="t"), [printed(1, "one")])
    store.write(job(2), None, [])
    await store.copy(tmp_path / "copy.sqlite3")
    await store.durable(job(3), None, [])
    copied = SqliteStore(tmp_path / "copy.sqlite3")
    await copied.open()
    try:
        assert [found.job.id for found in await copied.unfinished()] == [job_id(1), job_id(2)]
        assert await copied.events(job_id(1), 0, 10) == [printed(1, "one")]
    finally:
        await copied.close()


async def test_a_copy_holds_what_is_written_while_it_is_made(store: Store, tmp_path: Path) -> None:
    for second in range(40):  # some forty steps of the copy
        await store.durable(job(second), None, [printed(second, "x" * 2**20)])
    copying = asyncio.ensure_future(store.copy(tmp_path / "copy.sqlite3"))
    written = 0
    while not copying.done():
        await store.durable(job(1000 + written), None, [])
        assert await store.get(job_id(written % 40)) is not None
        written += 1
    await copying
    copied = SqliteStore(tmp_path / "copy.sqlite3")
    await copied.open()
    try:
        there = {found.job.id for found in await copied.unfinished()}
        assert {job_id(second) for second in range(40)} <= there
        assert written > 1
        assert {job_id(1000 + number) for number in range(written - 1)} <= there
    finally:
        await copied.close()


async def test_a_copy_that_cannot_be_written(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"copy\.sqlite3 cannot be opened"):
        await store.copy(tmp_path / "none" / "copy.sqlite3")
    await store.durable(job(1), None, [])
    assert store.fault is None


async def test_a_copy_that_the_end_cuts_short(make: Callable[[], Store], tmp_path: Path) -> None:
    store = make()
    await store.open()
    for second in range(10):
        await store.durable(job(second), None, [printed(second, "x" * 2**20)])
    copying = asyncio.ensure_future(store.copy(tmp_path / "copy.sqlite3"))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(Unavailable, match="stopped before"):
        await copying
    with pytest.raises(Unavailable, match="stopping"):
        await store.copy(tmp_path / "late.sqlite3")
