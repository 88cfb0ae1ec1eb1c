"""What was answered is there after `kill -9`, whenever it comes."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from remoterun import failpoints
from remoterun.messages import JobQuery
from remoterun.states import State
from remoterun.store.sqlite import SqliteStore

WRITER = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
from remoterun.messages import Job, StateEvent
from remoterun.states import State
from remoterun.store.sqlite import SqliteStore

NOW = datetime(2026, 11, 1, tzinfo=UTC)

def job(number, state):
    return Job(id=f"019a3d00-0000-7000-8000-{number:012d}", script="s", version="v", state=state, attempt=1,
               created=NOW, principal="ada", transport="t", node="n")

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    numbers = iter(range(int(sys.argv[2]), 10**9))
    async def writer():
        for number in numbers:
            queued, ended = job(number, State.QUEUED), job(number, State.SUCCEEDED)
            event = StateEvent(job=queued.id, n=1, time=NOW, state=State.QUEUED, attempt=0)
            await store.durable(queued, None, [event])
            await store.get(queued.id)
            os.write(1, queued.id.encode() + b"\\n")
            store.write(ended, None, [StateEvent(job=queued.id, n=2, time=NOW, state=State.SUCCEEDED, attempt=1)])
    async def copier():
        path = Path(sys.argv[1] + ".copy")
        while True:
            path.unlink(missing_ok=True)
            await store.copy(path)
    await asyncio.gather(copier(), *(writer() for _ in range(8)))

asyncio.run(main())
"""


def answered(path: Path, first: int, lines: int, failpoint: str = "") -> list[str]:
    """Run a writer, kill it after so many answers unless it dies by itself, and give all that it answered."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, path, str(first)],
        stdout=subprocess.PIPE,
        env={**os.environ, failpoints.VARIABLE: failpoint},
    )
    assert process.stdout is not None
    with process, process.stdout as output:
        seen = [line for _, line in zip(range(lines), output, strict=False)]
        process.kill()
        seen += output
    assert process.returncode == -signal.SIGKILL
    return [line.decode().strip() for line in seen]


async def check(path: Path, ids: list[str]) -> None:
    """Every answered job is there with its first event; whoever ended has both."""
    store = SqliteStore(path)
    await store.open()
    for job_id in ids:
        record = await store.get(job_id)
        assert record is not None, job_id
        numbers = [event.n for event in await store.events(job_id, 0, 10)]
        assert numbers == ([1] if record.job.state is State.QUEUED else [1, 2])
    assert len(await store.list_jobs(JobQuery(limit=10), None)) == 10
    await store.close()
    with sqlite3.connect(path) as driver:
        assert driver.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counted = driver.execute("SELECT count(*), sum(size) FROM jobs WHERE ended IS NOT NULL").fetchone()
        assert driver.execute("SELECT jobs, bytes FROM totals").fetchone() == counted
    driver.close()


async def test_every_answered_job_is_there_after_a_kill_at_random(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    seed = random.randrange(10**6)
    print("seed", seed)  # shown when the test fails
    chance = random.Random(seed)
    ids: list[str] = []
    for turn in range(20):
        new = answered(path, turn * 10**6, chance.randrange(20, 400))
        await check(path, new)
        ids += new
    await check(path, ids)


@pytest.mark.parametrize("point", sorted(name for name in failpoints.NAMES if name.startswith("store.")))
async def test_every_answered_job_is_there_after_a_kill_at_each_failpoint(tmp_path: Path, point: str) -> None:
    path = tmp_path / "x.sqlite3"
    ids = answered(path, 0, 20)
    ids += answered(path, 10**6, 10**9, f"{point}=kill@30")
    await check(path, ids)
