"""Whose output it is: the node's end of a warm worker, against a worker that moves between any two of its looks."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import sys
import termios
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from remoterun.workers import frames, pipes, worker
from remoterun.workers.calls import CallQueue
from remoterun.workers.interface import Assignment, Outcome, Program, Sink
from remoterun.workers.readers import Readers
from remoterun.workers.run import Run
from remoterun.workers.worker import Worker

AHEAD = 3
PROGRAM = Program("s", "1", Path("s.py"), Path("s.py"), "main", "warm")

Plan = list[str]  # what a call writes to, piece after piece: "stdout", "stderr", "progress"
plans = st.lists(
    st.lists(st.sampled_from(["stdout", "stdout", "stderr", "progress"]), max_size=3), min_size=2, max_size=8
)


class Heard(Sink):
    """What the node took to be a call's."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.outcomes: list[Outcome] = []

    def output(self, stream: Literal["stdout", "stderr"], data: bytes) -> bool:
        assert not self.outcomes
        self.said.extend((stream, line) for line in data.decode().split())
        return True

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        assert not self.outcomes
        self.said.append(("progress", str(message)))

    def began(self) -> None: ...

    def returned(self) -> None: ...

    def ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


class Acting:
    """The worker's side of the protocol, one atomic step at a time."""

    def __init__(self) -> None:
        self.control, node_control = socket.socketpair()
        self.ends: dict[str, int] = {}
        node_control.setblocking(False)
        fds = [node_control.detach()]
        for name in ("stdout", "stderr", "progress"):
            read_end, self.ends[name] = os.pipe()
            os.set_blocking(read_end, False)
            fds.append(read_end)
        self.fds = fds
        self.calls: socket.socket | None = None
        self.step: Callable[[], bool] = self._receive_first
        self.begun: list[str] = []
        self._writes: deque[str] = deque()
        self._plans: dict[str, Plan] = {}
        self._flags = 0

    def knows(self, job: str, plan: Plan) -> None:
        self._plans[job] = plan

    def _receive_first(self) -> bool:
        try:
            data, ancillary, _, _ = self.control.recvmsg(4096, 64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        self.calls = socket.socket(fileno=int.from_bytes(ancillary[0][2], sys.byteorder))
        self._begin(data[frames.HEADER :])
        return True

    def _receive(self) -> bool:
        assert self.calls is not None
        try:
            self._begin(self.calls.recv(4096, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        return True

    def _begin(self, message: bytes) -> None:
        job = message.decode().split('"')[3]
        self.begun.append(job)
        self._writes = deque(self._plans[job])
        self.step = self._write

    def _write(self) -> bool:
        if not self._writes:
            self.step = self._look
            return self.step()
        job = self.begun[-1]
        name = self._writes.popleft()
        os.write(
            self.ends[name], f'{{"done":1,"message":"{job}"}}\n'.encode() if name == "progress" else f"{job}\n".encode()
        )
        return True

    def _look(self) -> bool:
        unread = any(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0" for fd in self.ends.values())
        self._flags = frames.OUTPUT if unread else 0
        self.step = self._reply
        return True

    def _reply(self) -> bool:
        self.control.sendall(frames.frame(bytes((frames.RESULT, self._flags))))
        self.step = self._await_word if self._flags else self._receive
        return True

    def _await_word(self) -> bool:
        try:
            assert self.control.recv(frames.HEADER, socket.MSG_DONTWAIT) == frames.frame(b"")
        except BlockingIOError:
            return False
        self.step = self._receive
        return True

    def close(self) -> None:
        self.control.close()
        if self.calls is not None:
            self.calls.close()
        for fd in self.ends.values():
            os.close(fd)


class Ready:
    """The part of `Readers` that a worker uses; tells what is ready when asked, as a loop is told: all at once."""

    def __init__(self) -> None:
        self.callbacks: dict[int, Callable[[], object]] = {}

    def add(self, fd: int, callback: Callable[[], object]) -> None:
        self.callbacks[fd] = callback

    def remove(self, fd: int) -> None:
        self.callbacks.pop(fd, None)

    forget = remove

    def ready(self) -> list[int]:
        poll = select.poll()
        for fd in self.callbacks:
            poll.register(fd, select.POLLIN)
        return [fd for fd, _ in poll.poll(0)]


class Play:
    """The node's part, as the pool plays it; `choices` say who moves when."""

    def __init__(self, plans: list[Plan], choices: bytes) -> None:
        self.acting = Acting()
        self.readers = Ready()
        self.worker = Worker(1, "", self.acting.fds, cast(Readers, self.readers))
        self.worker.is_warm = True
        self.worker.on_reply = self._replied
        self.heard = {f"job-{number}": Heard() for number in range(len(plans))}
        self.plans = dict(zip(self.heard, plans, strict=True))
        self.waiting = deque(self.heard)
        self.choices = iter(choices)
        for job, plan in self.plans.items():
            self.acting.knows(job, plan)

    def choose(self, count: int) -> int:
        return next(self.choices, 0) % count

    def worker_moves(self) -> None:
        """Let the worker go on for a few steps, or none."""
        for _ in range(self.choose(8)):
            if not self.acting.step():
                return

    def _run(self, job: str) -> Run:
        return Run(Assignment(job, 1, PROGRAM, b"{}", (), None, None), self.heard[job], 10**6, 10**6)

    def give(self) -> None:
        if not self.waiting:
            return
        job = self.waiting[0]
        message = f'{{"job":"{job}"}}'.encode()
        if not self.acting.begun and self.worker.run is None:
            self.worker.begin(self._run(job), message)
        elif self.worker.run is None:
            self.worker.call(self._run(job), message)
        elif len(self.worker.ahead) >= AHEAD or not self.worker.call_ahead(self._run(job), message):
            return
        self.waiting.popleft()

    def take_back(self) -> None:
        returned, _ = self.worker.take_back()
        self.waiting.extendleft(run.assignment.job_id for run in reversed(returned))

    def poll(self) -> None:
        for fd in self.readers.ready():
            callback = self.readers.callbacks.get(fd)
            if callback is not None:
                callback()

    def _replied(self, worker: Worker, flags: int, left: str) -> None:
        run = worker.run
        assert run is not None
        worker.ended()
        if worker.ahead:
            worker.began(worker.ahead.popleft())
        run.end(run.outcome(0))

    def play(self) -> None:
        moves = (self.poll, self.poll, self.poll, self.give, self.give, self.worker_moves, self.take_back)
        for _ in range(60):
            moves[self.choose(len(moves))]()
        while not all(heard.outcomes for heard in self.heard.values()):
            self.give()
            while self.acting.step():
                pass
            self.poll()

    def close(self) -> None:
        self.worker.close()
        self.acting.close()


@contextmanager
def moves_between_looks(play: Play) -> Iterator[None]:
    """Let the worker move before each system call of the node's that looks at what the worker did."""

    def moving(function: Callable[..., Any]) -> Callable[..., Any]:
        def moved(*args: Any) -> Any:
            play.worker_moves()
            return function(*args)

        return moved

    with (
        patch.object(worker, "has_news", moving(pipes.has_news)),
        patch.object(pipes, "_unread", moving(pipes._unread)),
        patch("remoterun.workers.pipes.os.read", moving(os.read)),
        patch.object(Worker, "_read_control", moving(Worker._read_control)),
        patch.object(CallQueue, "take_back", moving(CallQueue.take_back)),
    ):
        yield


@settings(max_examples=1000, deadline=None)
@given(plans=plans, choices=st.binary(min_size=100, max_size=600))
def test_output_is_taken_for_that_of_the_call_that_wrote_it(plans: list[Plan], choices: bytes) -> None:
    async def run() -> None:
        play = Play(plans, choices)
        try:
            with moves_between_looks(play):
                play.play()
        finally:
            play.close()
        assert sorted(play.acting.begun) == sorted(play.plans)
        for job, heard in play.heard.items():
            said = [(name, job) for name in play.plans[job]]
            assert sorted(output_of(heard.said)) == sorted(output_of(said)), job
            assert set(heard.said) == set(said), job  # of progress that comes often, some is left out
            assert len(heard.outcomes) == 1

    asyncio.run(run())


def output_of(said: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, job) for name, job in said if name != "progress"]
