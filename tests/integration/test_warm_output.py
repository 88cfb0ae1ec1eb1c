"""Whose output it is, where warm workers begin calls by themselves and the node is late to read what they wrote."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remoterun.messages import Event, Job, JobRequest, OutputEvent, ProgressEvent
from remoterun.service import AsyncSession, Origin, Peer
from remoterun.testing import dispatcher_node
from remoterun.workers import pool, warm
from tests.hostile.harness import sized

SCRIPT = """
# /// script
# [tool.remoterun]
# isolation = "warm"
# ///
import ctypes
import json
import os
import sys
import time

libc = ctypes.CDLL(None)


def main(what: str, pause: float = 0) -> str:
    job = os.environ["REMOTERUN_JOB"].encode() + b"\\n"
    for part in what.split():
        if part == "print":
            print(os.environ["REMOTERUN_JOB"])
        elif part == "write":
            os.write(1, job)
        elif part == "c":
            libc.write(1, job, len(job))
        elif part == "child":
            pid = os.fork()
            if pid == 0:
                os.write(1, job)
                os._exit(0)
            os.waitpid(pid, 0)
        elif part == "much":
            for _ in range(50):
                os.write(1, job * 100)
        elif part == "error":
            print(os.environ["REMOTERUN_JOB"], file=sys.stderr)
        elif part == "progress":
            with open(os.environ["REMOTERUN_PROGRESS"], "w") as file:
                file.write(json.dumps({"done": 1, "message": os.environ["REMOTERUN_JOB"]}) + "\\n")
        elif part == "cut":
            with open(os.environ["REMOTERUN_PROGRESS"], "w") as file:
                file.write('{"done": 2, "message": "')
        if pause:
            time.sleep(pause)
    return what
"""
LINES = {"print": 1, "write": 1, "c": 1, "child": 1, "much": 5000}  # of stdout
KINDS = [*[""] * 3, "print", "write", "c", "child", "much", "error", "progress", "cut", "write write", "print error c"]


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
async def session(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncSession]:
    """A session with a node that hands calls ahead whatever the calls before took."""
    monkeypatch.setattr(warm, "_QUICK_FOR", 0)
    monkeypatch.setattr(pool, "_TOO_LONG", 60.0)
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "warm.py").write_text(SCRIPT)
    async with dispatcher_node(scripts, data=tmp_path / "data", workers=request.param) as node:
        yield await node.dispatcher.authenticate(Peer(os.getuid(), os.getgid(), os.getpid()), Origin("test"))


@pytest.fixture
async def late(session: AsyncSession) -> AsyncIterator[random.Random]:
    """Block the loop's thread again and again, for what may be much longer than a call takes, and may be nothing."""
    chance = random.Random(7)

    async def block() -> None:
        while True:
            time.sleep(chance.choice((0, 0, 0.0001, 0.0005, 0.003)))  # noqa: ASYNC251 - the node is to be late
            await asyncio.sleep(chance.choice((0, 0, 0.0002, 0.001)))

    task = asyncio.create_task(block())
    yield chance
    task.cancel()


async def test_each_call_has_its_own_output_alone(session: AsyncSession, late: random.Random) -> None:
    for _ in range(sized(12)):
        calls = [(late.choice(KINDS), late.choice((0, 0, 0, 0.0003))) for _ in range(40)]
        jobs = await asyncio.gather(*(session.run(call(what, pause)) for what, pause in calls))
        for (what, _), job in zip(calls, jobs, strict=True):
            await assert_has_its_own(session, what, job)


def call(what: str, pause: float) -> JobRequest:
    return JobRequest(script="warm", params={"what": what, "pause": pause})


async def assert_has_its_own(session: AsyncSession, what: str, job: Job) -> None:
    events: list[Event] = [event async for event in session.events(job.id)]
    line = f"{job.id}\n".encode()

    assert job.result == what
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    assert stream(events, "stdout") == line * sum(LINES.get(part, 0) for part in what.split()), what
    assert stream(events, "stderr") == line * what.split().count("error"), what
    told = [(event.done, event.message) for event in events if isinstance(event, ProgressEvent)]
    assert told == [(1, job.id)] * what.split().count("progress"), what


def stream(events: list[Event], name: str) -> bytes:
    return b"".join(event.raw() for event in events if isinstance(event, OutputEvent) and event.stream == name)
