"""A failing or full disk: never a false success, nothing lost that was not refused, and on again by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remoterun import failpoints
from remoterun.errors import Internal, StoreError, Unavailable
from remoterun.messages import Event, Job, JobQuery, OutputEvent, Refusal, StateEvent
from remoterun.states import State
from remoterun.store import records
from remoterun.store.interface import Extra, Record
from remoterun.store.sqlite import SqliteStore

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def job(number: int = 1, state: State = State.QUEUED) -> Job:
    return Job(
        id=f"019a3d00-0000-7000-8000-{number:012d}",
        script="s",
        version="v",
        state=state,
        attempt=1,
        created=NOW,
        principal="ada",
        transport="t",
        node="n",
    )


def states(of: Job, *numbers: int) -> list[Event]:
    return [StateEvent(job=of.id, n=n, time=NOW, state=of.state, attempt=1) for n in numbers]


def large(of: Job, n: int) -> list[Event]:
    return [OutputEvent(job=of.id, n=n, time=NOW, stream="stdout", data="x" * 60_000)]


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    failpoints.configure("")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "x.sqlite3")
    await store.open()
    yield store
    failpoints.configure("")
    await store.close()


async def healed(store: SqliteStore) -> None:
    """Return once the store works again, which it finds out by itself."""
    while store.fault is not None or store.backlog:  # noqa: ASYNC110 - the store has no event for that
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("point", ["store.begin", "store.before_commit"])
@pytest.mark.parametrize(
    ("error", "message"), [("ENOSPC", "the disk is full: free some space where .* is"), ("EIO", "the disk fails: ")]
)
async def test_an_awaited_write_that_fails_is_taken_back(
    store: SqliteStore, point: str, error: str, message: str
) -> None:
    await store.durable(job(), Extra(timeout=1), states(job(), 1))
    failpoints.configure(f"{point}=error:{error}@1")
    running = job(state=State.RUNNING)
    with pytest.raises(Unavailable, match=message):
        await store.durable(running, None, states(running, 2))
    assert store.fault is not None
    assert store.backlog == 0
    assert await store.get(job().id) == Record(job(), Extra(timeout=1))
    assert await store.events(job().id, 0, 10) == states(job(), 1)
    await healed(store)
    await store.durable(running, None, states(running, 2))
    assert await store.get(job().id) == Record(running, None)


async def test_what_was_pending_before_an_awaited_write_outlives_it(store: SqliteStore) -> None:
    failpoints.configure("store.before_commit=error:ENOSPC@1")
    store.write(job(), Extra(timeout=1), states(job(), 1))
    running = job(state=State.RUNNING)
    with pytest.raises(Unavailable, match="the disk is full"):
        await store.durable(running, None, states(running, 2))
    assert store.backlog == 1
    await healed(store)
    assert await store.get(job().id) == Record(job(), Extra(timeout=1))
    assert await store.events(job().id, 0, 10) == states(job(), 1)


async def test_what_nobody_awaits_is_written_once_there_is_room(store: SqliteStore) -> None:
    failpoints.configure("store.begin=error:ENOSPC")
    store.write(job(1), None, states(job(1), 1))
    store.write(job(2), None, states(job(2), 1))
    with pytest.raises(Unavailable):
        await store.durable(job(3), None, [])
    ended = job(1, State.SUCCEEDED)
    store.write(ended, None, states(ended, 2))
    assert store.backlog == 2
    for question in (store.get(job(1).id), store.list_jobs(JobQuery(), None), store.events(job(1).id, 0, 1)):
        with pytest.raises(Unavailable, match="the disk is full"):
            await question
    failpoints.configure("")
    await healed(store)
    assert await store.list_jobs(JobQuery(), None) == [job(2), ended]
    assert [event.n for event in await store.events(job(1).id, 0, 10)] == [1, 2]


async def test_the_fault_ends_by_itself_with_nothing_to_write(store: SqliteStore) -> None:
    failpoints.configure("store.begin=error:EIO@1")
    with pytest.raises(Unavailable):
        await store.durable(job(), None, [])
    await healed(store)
    assert await store.list_jobs(JobQuery(), None) == []


async def test_reading_goes_on_while_nothing_is_pending(store: SqliteStore) -> None:
    await store.durable(job(1), None, [])
    failpoints.configure("store.begin=error:ENOSPC")
    with pytest.raises(Unavailable):
        await store.durable(job(2), None, [])
    for _ in range(5):
        assert await store.list_jobs(JobQuery(), None) == [job(1)]
    assert store.fault is not None


async def test_a_read_that_fails_says_so_and_the_next_one_works(store: SqliteStore) -> None:
    failpoints.configure("store.read=error:EIO@1")
    with pytest.raises(Unavailable, match="the disk fails"):
        await store.get(job().id)
    assert await store.get(job().id) is None
    assert store.fault is None


async def test_refused_calls_are_dropped_while_the_disk_fails(store: SqliteStore) -> None:
    refusal = Refusal(time=NOW, principal=None, transport="t", operation="run", script="s", code="busy", message="")
    failpoints.configure("store.begin=error:EIO@1")
    with pytest.raises(Unavailable):
        await store.durable(job(), None, [])
    store.refuse(refusal)
    await healed(store)
    assert await store.list_refusals(10) == []
    store.refuse(refusal)
    assert await store.list_refusals(10) == [refusal]


async def test_closing_on_a_failing_disk_ends(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "x.sqlite3")
    await store.open()
    failpoints.configure("store.begin=error:ENOSPC")
    store.write(job(1), None, [])
    waiter = store.durable(job(2), None, [])
    await store.close()
    with pytest.raises(Unavailable, match="the disk is full"):
        await waiter
    assert store.fault is not None


async def test_a_value_too_large_for_a_column_spoils_no_other(store: SqliteStore) -> None:
    beyond = OutputEvent(job=job(1).id, n=2**63, time=NOW, stream="stdout", data="")
    bad = store.durable(job(1), None, [beyond])
    good = store.durable(job(2), None, [])
    await good
    with pytest.raises(Internal, match="cannot be recorded"):
        await bad
    assert await store.list_jobs(JobQuery(), None) == [job(2)]
    assert store.fault is None


async def test_random_faults_never_make_a_false_promise(store: SqliteStore) -> None:
    failpoints.configure("store.begin=error:EIO@7,store.before_commit=error:ENOSPC@4")
    kept, refused = [], []

    async def submit(number: int) -> None:
        try:
            await store.durable(job(number), None, states(job(number), 1))
        except Unavailable:
            refused.append(number)
        else:
            kept.append(number)

    for start in range(0, 200, 10):
        await asyncio.gather(*(submit(number) for number in range(start, start + 10)))
    assert len(refused) == 20
    page = await store.list_jobs(JobQuery(limit=1000), None)
    assert [found.id for found in page] == [job(number).id for number in sorted(kept, reverse=True)]


async def test_a_fault_in_the_middle_of_a_large_group_fails_what_is_not_on_disk(store: SqliteStore) -> None:
    failpoints.configure("store.begin=error:ENOSPC@2")
    waiters = [store.durable(job(number), None, []) for number in range(1200)]
    for number in range(1200, 1300):
        store.write(job(number), None, [])
    answers = await asyncio.gather(*waiters, return_exceptions=True)
    kept = [number for number, answer in enumerate(answers) if answer is None]
    assert 0 < len(kept) < 1200
    assert all(isinstance(answer, Unavailable) for answer in answers[len(kept) :])
    await healed(store)
    expected = [job(number).id for number in (*range(1299, 1199, -1), *reversed(kept))]
    found = await store.list_jobs(JobQuery(limit=1000), None)
    assert [value.id for value in found] == expected


async def test_only_the_newest_refused_calls_are_kept(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "REFUSALS", 10)
    calls = [
        Refusal(time=NOW, principal=None, transport="t", operation="run", script=f"{n}", code="busy", message="")
        for n in range(100)
    ]
    for start in range(0, 100, 7):
        for refusal in calls[start : start + 7]:
            store.refuse(refusal)
        await store.get(job().id)
    assert await store.list_refusals(1000) == calls[:-11:-1]


class FullDisk:
    """A small file system of its own, filled with a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FullDisk]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4M,mode=700", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        _need_root(mounted.stderr)
    try:
        yield FullDisk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


def _need_root(why: str) -> None:
    """Skip on a laptop, fail in CI, where the tests run as root."""
    message = f"a full disk needs a small file system, and mounting one needs root: {why.strip()}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


async def _until_full(write: Callable[[int], Awaitable[None]]) -> tuple[int, str]:
    """Write until it fails; give the number of the write that did, and why."""
    for number in range(1, 1000):
        try:
            await write(number)
        except Unavailable as error:
            return number, error.message
    raise AssertionError("the disk never filled")


async def test_a_really_full_disk_refuses_and_serves_again_once_there_is_room(disk: FullDisk) -> None:
    path = disk.folder / "x.sqlite3"
    store = SqliteStore(path)
    await store.open()
    await store.durable(job(0), None, [])
    disk.fill()
    number, reason = await _until_full(lambda number: store.durable(job(number), None, large(job(number), 1)))
    assert reason == f"the disk is full: free some space where {path} is; the node then goes on by itself"
    store.write(job(500), None, large(job(500), 1))
    with pytest.raises(Unavailable):
        await store.durable(job(501), None, [])
    assert store.backlog == 1
    assert store.fault is not None
    disk.free()
    await healed(store)
    await store.durable(job(502), None, [])
    expected = [job(n).id for n in (502, 500, *range(number - 1, -1, -1))]
    assert [found.id for found in await store.list_jobs(JobQuery(limit=1000), None)] == expected
    await store.close()
    again = SqliteStore(path)
    await again.open()
    assert [found.id for found in await again.list_jobs(JobQuery(limit=1000), None)] == expected
    assert await again.events(job(500).id, 0, 10) == large(job(500), 1)
    await again.close()


async def test_opening_on_a_full_disk_says_so(disk: FullDisk) -> None:
    disk.fill()
    with pytest.raises(StoreError, match="the disk is full: free some space"):
        await SqliteStore(disk.folder / "x.sqlite3").open()
