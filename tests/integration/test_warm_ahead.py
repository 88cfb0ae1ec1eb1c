"""Calls that a busy warm worker was handed ahead: each runs once, in its own name, or not at all."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remoterun.messages import JobQuery, JobRequest
from remoterun.service import AsyncSession, Origin, Peer
from remoterun.states import State
from remoterun.testing import dispatcher_node
from remoterun.workers import warm
from tests.hostile.harness import eventually

SCRIPT = """
# /// script
# [tool.remoterun]
# isolation = "warm"
# ///
import os
import time
from pathlib import Path


def main(what: str = "", journal: str = "", gate: str = "") -> str:
    if journal:
        with open(journal, "a") as file:
            file.write(os.environ["REMOTERUN_JOB"] + "\\n")
    if what == "die":
        os._exit(3)
    if what == "print":
        print(os.environ["REMOTERUN_JOB"])
    while gate and not Path(gate).exists():
        time.sleep(0.001)
    return str(os.getpid()) if what == "pid" else what
"""


@pytest.fixture
def workers() -> int:
    """Jobs at once."""
    return 1


@pytest.fixture
async def session(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncSession]:
    """A session with a node that has a warm worker, and takes its script to be quick after one quick call."""
    monkeypatch.setattr(warm, "_QUICK_FOR", 1)
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "warm.py").write_text(SCRIPT)
    async with dispatcher_node(scripts, data=tmp_path / "data", workers=workers) as node:
        session = await node.dispatcher.authenticate(Peer(os.getuid(), os.getgid(), os.getpid()), Origin("test"))
        for _ in range(3):
            await session.run(call())
        yield session


def call(**params: str) -> JobRequest:
    return JobRequest(script="warm", params=params)


def lines_of(path: str) -> list[str]:
    return Path(path).read_text().split()


async def test_calls_behind_one_that_kills_its_worker_run_once(session: AsyncSession, tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    calls = [session.run(call(what="die")), *(session.run(call(journal=journal)) for _ in range(30))]

    died, *others = await asyncio.gather(*calls)

    assert (died.state, died.exit_code) == (State.FAILED, 3)
    assert {job.state for job in others} == {State.SUCCEEDED}
    assert {job.attempt for job in others} == {1}
    assert sorted(lines_of(journal)) == sorted(job.id for job in others)


async def test_a_call_that_is_cancelled_while_another_runs_is_cancelled(session: AsyncSession, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = asyncio.ensure_future(session.run(call(gate=str(gate))))
    others = [asyncio.ensure_future(session.run(call())) for _ in range(3)]
    waiting = [job for job in (await session.list_jobs(query())).jobs if job.state is State.QUEUED]

    cancelling = asyncio.ensure_future(session.cancel(waiting[-1].id))
    await asyncio.sleep(0)
    gate.touch()

    assert (await cancelling).state is State.CANCELLED
    assert (await first).state is State.SUCCEEDED
    states = [(await other).state for other in others]
    assert states.count(State.CANCELLED) == 1
    assert (await session.run(call(what="after"))).result == "after"


@pytest.mark.parametrize("workers", [2])
async def test_calls_behind_one_that_takes_long_go_to_another_worker(session: AsyncSession, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    long = asyncio.ensure_future(session.run(call(gate=str(gate))))
    others = [asyncio.ensure_future(session.run(call(what=str(n)))) for n in range(5)]

    ended = await asyncio.gather(*others)

    assert [job.result for job in ended] == [str(n) for n in range(5)]
    assert {job.attempt for job in ended} == {1}
    assert not long.done()
    gate.touch()
    assert (await long).state is State.SUCCEEDED


async def test_a_call_behind_another_can_be_cancelled_before_it_begins(session: AsyncSession, tmp_path: Path) -> None:
    gate, journal = tmp_path / "gate", tmp_path / "journal"
    first = asyncio.ensure_future(session.run(call(gate=str(gate))))
    second = asyncio.ensure_future(session.run(call(journal=str(journal), gate=str(gate))))
    waiting = [job for job in (await session.list_jobs(query())).jobs if job.state is State.QUEUED]

    cancelled = await session.cancel(waiting[0].id)

    assert cancelled.state is State.CANCELLED
    assert (cancelled.started, cancelled.attempt) == (None, 0)
    assert not first.done()
    gate.touch()
    assert (await first).state is State.SUCCEEDED
    assert (await second).state is State.CANCELLED
    assert not journal.exists()


async def test_a_worker_that_died_without_work_fails_no_call(session: AsyncSession) -> None:
    pid = int((await session.run(call(what="pid"))).result)
    os.kill(pid, signal.SIGSTOP)  # so that it takes no call that it is given
    eventually(lambda: " T " in Path(f"/proc/{pid}/stat").read_text(), "the worker stops")

    job = asyncio.ensure_future(session.run(call(what="pid")))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)

    assert (await job).state is State.SUCCEEDED
    assert int((await job).result) != pid
    assert (await job).attempt == 1


async def test_calls_of_any_size_keep_their_own_parameters(session: AsyncSession) -> None:
    sizes = [1, 40_000, 1, 400_000, 32_768, 32_600, 1, 40_000]
    jobs = await asyncio.gather(*(session.run(call(what=str(n) * size)) for n, size in enumerate(sizes)))

    assert [job.result for job in jobs] == [str(n) * size for n, size in enumerate(sizes)]


async def test_numbers_of_events_have_no_gaps(session: AsyncSession) -> None:
    jobs = await asyncio.gather(*(session.run(call(what="print")) for _ in range(20)))

    for job in jobs:
        events = [event async for event in session.events(job.id)]
        assert [event.n for event in events] == list(range(1, len(events) + 1))


def query() -> JobQuery:
    return JobQuery(limit=10)
