"""The pool: it finds a worker for each attempt, in the isolation that its script asks for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from remoterun.config import Limits
from remoterun.messages import JobError
from remoterun.workers import leavings, usage
from remoterun.workers.assignments import first_message, next_message
from remoterun.workers.forkserver import LEFT_ARTIFACTS, LEFT_FILES, STRAY_GRACE
from remoterun.workers.frames import FILES, SLOW, UNCLEAN
from remoterun.workers.interface import Assignment, Outcome, Program, Sink
from remoterun.workers.readers import Readers
from remoterun.workers.run import Run
from remoterun.workers.server import PLAIN, ForkServer, Kind, ServerOptions, kind_of
from remoterun.workers.warm import WarmWorkers
from remoterun.workers.worker import Worker

logger = logging.getLogger(__name__)

_DRAIN = 0.5  # seconds that pipes may stay open after the main process has ended
_WATCH_EVERY = 0.2  # seconds between two looks at what running jobs use
_IDLE_WARM = 60.0  # seconds after which a warm worker without work is let go
_IDLE_SERVER = 600.0  # seconds after which a fork server without work is let go; the plain one stays
_TOO_LONG = 0.005  # seconds that a call may take before those behind it are taken back
_REMOVALS = 5  # times that the removal of a job's folder is tried
_STARTS = 3  # times that a fork server is started which ends before it has forked: something may have killed it
_FAILED_START = JobError(
    type="WorkerError", message="the fork server ended before it could fork; the node's log says why"
)


class WorkerPool:
    """Run attempts in worker processes.

    Parameters:
        options: how fork servers are started.
        limits: what a job may use where its script says nothing else.
        artifacts: folder that gets one folder for each job that leaves files.
    """

    def __init__(self, options: ServerOptions, limits: Limits, artifacts: Path) -> None:
        self._options = options
        self._limits = limits
        self._artifacts = artifacts
        self._servers: dict[Kind, ForkServer] = {}
        self._owner: dict[Worker, ForkServer] = {}
        self._warm = WarmWorkers()
        self._readers = Readers()
        self._failed_starts: dict[Kind, int] = {}  # of servers that ended before they forked, in a row
        self._runs: set[Run] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # Apart, so that what one job left to be removed holds up neither another's end nor the watch.
        self._files = ThreadPoolExecutor(2, thread_name_prefix="remoterun-files")
        self._watching = ThreadPoolExecutor(1, thread_name_prefix="remoterun-watch")
        self._removing = ThreadPoolExecutor(1, thread_name_prefix="remoterun-remove")
        self._is_stopping = False
        self._look: asyncio.TimerHandle | None = None  # at calls that stand behind others
        self._loop = asyncio.get_running_loop()  # kept: before 3.12 asking for it is a system call (getpid)

    async def start(self) -> None:
        """Start the fork server that most scripts use, and the watch over what jobs use."""
        self._options.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._server(PLAIN)
        self._spawn(self._watch())

    def begin(self, assignment: Assignment, sink: Sink) -> Run:
        """Run an attempt: at once where a worker waits, else as soon as one is forked."""
        run = self._new_run(assignment, sink)
        program = assignment.program
        if program.isolation == "warm":
            worker = self._warm.take(program)
            if worker is not None:
                worker.call(run, next_message(assignment))
                return run
            for other in self._warm.of_other_versions(program):
                self._retire(other)
        server = self._server(kind_of(program))
        if program.isolation == "fork":
            server.compile(program)
        server.take(partial(self._first_call, run))
        return run

    def begin_ahead(self, program: Program, make: Callable[[], Assignment], sink: Sink) -> Run | None:
        """Hand a call to a warm worker that is still busy with others, if there is one whose calls are quick.

        The sink hears `began` once the worker has begun it, or `returned` if it never will.

        Parameters:
            make: gives the assignment, where there is such a worker.
        """
        worker = self._warm.ahead(program)
        if worker is None:
            return None
        assignment = make()
        run = self._new_run(assignment, sink)
        if not worker.call_ahead(run, next_message(assignment)):
            self._runs.discard(run)
            return None
        run.behind = worker
        if self._look is None:
            self._look = self._loop.call_later(_TOO_LONG, self._look_at_ahead)
        return run

    def _new_run(self, assignment: Assignment, sink: Sink) -> Run:
        run = Run(assignment, sink, self._limits.output, self._limits.output_stop)
        run.on_stop = self._stop_run
        self._runs.add(run)
        return run

    def _server(self, kind: Kind) -> ForkServer:
        server = self._servers.get(kind)
        if server is None:
            server = ForkServer(self._options, kind, self._readers, self._worker_exited, self._server_died)
            server.used_at = asyncio.get_running_loop().time()
            self._servers[kind] = server
        return server

    def _first_call(self, run: Run, worker: Worker) -> None:
        program = run.assignment.program
        server = self._servers[kind_of(program)]
        if run.stopped is not None:  # while it waited for a worker
            self._end(run, run.outcome(None))
            server.kill(worker)
            return
        self._owner[worker] = server
        worker.is_warm = program.isolation == "warm"
        worker.on_reply = self._warm_replied
        worker.on_broken = self._worker_broke
        if worker.is_warm:
            self._warm.add(program, worker)
        worker.begin(run, first_message(run.assignment))

    def _stop_run(self, run: Run, grace: float) -> None:
        if run.behind is not None:
            self._return_ahead(run.behind)  # and where it has begun, it is stopped once the node hears of that
            return
        worker = run.worker
        if worker is None:
            return  # it waits for a worker, and will not begin
        server = self._owner[worker]
        if worker.is_warm:
            self._warm.forget(worker)
            self._return_ahead(worker)
        if grace > 0:
            server.terminate(worker)
            asyncio.get_running_loop().call_later(grace, self._kill_if_running, worker, run)
        else:
            server.kill(worker)

    def _kill_if_running(self, worker: Worker, run: Run) -> None:
        if worker.run is run and worker in self._owner:
            self._owner[worker].kill(worker)

    def _warm_replied(self, worker: Worker, flags: int, left: str) -> None:
        run = worker.run
        assert run is not None
        if run.stopped is not None:
            return  # it is being killed, and its end is reported then
        worker.ended()
        program = run.assignment.program
        self._warm.replied(program, bool(flags & SLOW))
        if flags & UNCLEAN or self._is_stopping:
            self._warm.forget(worker)
            self._owner[worker].kill(worker)
            self._return_ahead(worker)
        elif worker.ahead:
            self._next_began(worker)
        else:
            worker.idle_since = self._loop.time()
            self._warm.rests(program, worker)
        if flags & FILES and leavings.is_safe_name(left) and "/" not in left:
            worker.leaving = self._spawn(self._take_leavings(run, Path(worker.folder) / left, 0))
        else:
            self._end(run, run.outcome(0))

    def _next_began(self, worker: Worker) -> None:
        """Note that a worker has begun the next of the calls that it was handed ahead."""
        run = worker.ahead.popleft()
        run.behind = None
        worker.began(run)
        run.sink.began()
        if run.stopped is not None:  # while it waited for its turn
            self._stop_run(run, 0)

    def _look_at_ahead(self) -> None:
        """Take back the calls that stand behind one which is not quick: another worker may be free."""
        self._look = None
        for worker, _ in self._warm.with_calls_ahead():
            worker.read_replies()
        moment = self._loop.time() - _TOO_LONG
        for worker, run in self._warm.with_calls_ahead():
            if run.began < moment:
                self._warm.hand_none_ahead(run.assignment.program)
                self._return_ahead(worker)
        if self._warm.with_calls_ahead():
            self._look = self._loop.call_later(_TOO_LONG, self._look_at_ahead)

    def _return_ahead(self, worker: Worker) -> bool:
        """Give back what a worker was handed ahead and has not begun; tell whether it has not even begun its call."""
        returned, has_not_begun = worker.take_back()
        for run in returned:
            run.behind = None
            self._runs.discard(run)
            run.has_ended = True
            run.sink.returned()
        return has_not_begun

    def _settle(self, worker: Worker) -> None:
        """Settle what a worker that has ended was given: what it has not begun may begin elsewhere.

        A call that it took while the one before was being stopped has begun; nobody can know how far it got.
        """
        has_not_begun = self._return_ahead(worker)
        run = worker.run
        if has_not_begun and run is not None and run.stopped is None and not self._is_stopping:
            worker.ended()
            run.worker = None
            if (server := self._servers.get(kind_of(run.assignment.program))) is not None:
                server.take(partial(self._first_call, run))
        while worker.ahead:
            run = worker.ahead.popleft()
            run.behind = None
            run.sink.began()
            self._end(run, run.outcome(None, lost=True))

    def _worker_broke(self, worker: Worker) -> None:
        if worker in self._owner:
            self._owner[worker].kill(worker)

    def _worker_exited(self, worker: Worker, code: int, flags: int) -> None:
        worker.read_replies()
        self._owner.pop(worker, None)
        if worker.is_warm:
            self._warm.forget(worker)
            self._settle(worker)
        run = worker.run
        if run is None:
            worker.close()
            if flags & LEFT_FILES:
                self._spawn(self._remove_later(worker))
            return
        worker.pipes.drain()
        if worker.pipes.are_open:  # a process that it left still holds them
            self._spawn(self._finish_late(worker, run, code, flags))
        else:
            self._finish(worker, run, code, flags)

    async def _finish_late(self, worker: Worker, run: Run, code: int, flags: int) -> None:
        """Give what the job left a short grace to write; the fork server kills it meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.pipes.closed.wait(), _DRAIN)
        worker.pipes.drain()
        self._finish(worker, run, code, flags)

    def _finish(self, worker: Worker, run: Run, code: int, flags: int) -> None:
        worker.ended()
        worker.close()
        folder = Path(worker.folder)
        if flags & LEFT_ARTIFACTS:
            self._spawn(self._take_leavings(run, folder, code))
            return
        self._end(run, run.outcome(code))
        if flags & LEFT_FILES:
            self._remove(folder)

    async def _take_leavings(self, run: Run, folder: Path, code: int) -> None:
        """Take the artifacts of an attempt, then end it: its end event comes after them."""
        loop = asyncio.get_running_loop()
        try:
            left = await loop.run_in_executor(self._files, self._take, folder, run.assignment.job_id)
        except OSError as error:
            left = leavings.Leavings(refused=f"artifacts could not be kept: {error}")
        self._remove(folder)
        if left.refused:
            run.take_output("stderr", f"remoterun: {left.refused}\n".encode())
        self._end(run, self._with_result(run, left, code))

    def _take(self, folder: Path, job_id: str) -> leavings.Leavings:
        limits = self._limits
        return leavings.take(
            folder,
            self._artifacts / job_id,
            most_files=limits.artifact_count,
            most_bytes=limits.artifacts,
            most_result=limits.result,
        )

    def _with_result(self, run: Run, left: leavings.Leavings, code: int) -> Outcome:
        """Add what a plain script wrote to its result file."""
        if left.result is None or (run.reply is not None and run.reply[1]):
            return run.outcome(code, artifacts=left.artifacts)
        if len(left.result) > self._limits.result:
            run.reply = (ord("E"), _result_error(f"REMOTERUN_RESULT holds more than {self._limits.result} bytes"))
        else:
            run.reply = (ord("R"), left.result)
            if run.outcome(code).error is not None:
                run.reply = (ord("E"), _result_error("REMOTERUN_RESULT does not hold JSON"))
        return run.outcome(code, artifacts=left.artifacts)

    def _end(self, run: Run, outcome: Outcome) -> None:
        self._runs.discard(run)
        run.end(outcome)

    def _server_died(self, server: ForkServer, workers: list[Worker]) -> None:
        """End what a fork server's sudden death ended, and let the next call start another."""
        if self._servers.get(server.kind) is server:
            del self._servers[server.kind]
        for worker in workers:
            worker.read_replies()
            self._owner.pop(worker, None)
            self._warm.forget(worker)
            self._settle(worker)
            worker.pipes.drain()
            run = worker.run
            worker.ended()
            worker.close()
            if run is not None:
                self._end(run, run.outcome(None, lost=run.stopped is None))
            self._remove(Path(worker.folder))
        failed_starts = 0 if server.has_forked else self._failed_starts.get(server.kind, 0) + 1
        self._failed_starts[server.kind] = failed_starts
        may_start_again = failed_starts < _STARTS and not self._is_stopping
        waiting = [
            run
            for run in self._runs
            if run.worker is None and run.behind is None and kind_of(run.assignment.program) == server.kind
        ]
        for run in waiting:
            if run.stopped is not None:
                self._end(run, run.outcome(None))
            elif may_start_again:
                self._server(server.kind).take(partial(self._first_call, run))
            else:
                self._end(run, Outcome(error=_FAILED_START, exit_code=None, stopped=run.stopped))
        self._spawn(server.ended(1.0, [worker.pid for worker in workers]))

    def _retire(self, worker: Worker) -> None:
        self._warm.forget(worker)
        self._owner[worker].kill(worker)

    async def _watch(self) -> None:
        """Look at what running jobs use, and at what is no longer needed."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_WATCH_EVERY)
            now = loop.time()
            for run in [run for run in self._runs if run.worker is not None and run.began < now - _WATCH_EVERY]:
                await self._check_usage(run)
            self._prune(now)

    async def _check_usage(self, run: Run) -> None:
        worker, program = run.worker, run.assignment.program
        if worker is None:
            return
        used = await asyncio.get_running_loop().run_in_executor(self._watching, usage.of_tree, worker.pid)
        if run.has_ended:
            return
        if program.memory and used.memory > program.memory:
            run.stop("memory_limit", 0)
        elif used.tasks > program.processes:
            run.stop("process_limit", 0)

    def _prune(self, now: float) -> None:
        for worker in self._warm.idle_since(now - _IDLE_WARM):
            self._retire(worker)
        for kind, server in list(self._servers.items()):
            if kind != PLAIN and server.is_idle and server.used_at < now - _IDLE_SERVER:
                del self._servers[kind]
                server.hang_up()

    def _remove(self, folder: Path) -> None:
        if not self._is_stopping:
            self._removing.submit(self._remove_now, folder)

    def _remove_now(self, folder: Path) -> None:
        """Remove a folder into which a process that its job left may still write for a moment."""
        for _ in range(_REMOVALS):
            shutil.rmtree(folder, ignore_errors=True)
            if self._is_stopping or not folder.exists():
                return
            time.sleep(STRAY_GRACE)

    async def _remove_later(self, worker: Worker) -> None:
        """Remove a warm worker's folder, once what its last call left is taken."""
        if worker.leaving is not None:
            await asyncio.wait([worker.leaving])
        self._remove(Path(worker.folder))

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a defect of the worker pool", exc_info=error)

    def processes(self) -> tuple[int, Mapping[str, int]]:
        """Count fork servers, and workers by what they do."""
        busy = sum(worker.run is not None for worker in self._owner)
        ahead = sum(server.ready for server in self._servers.values())
        return len(self._servers), {"busy": busy, "idle": self._warm.idle, "ahead": ahead}

    def enforced(self) -> Mapping[str, str]:
        """Say by what means each limit is enforced on this machine."""
        return {
            "time": "SIGTERM, then SIGKILL to the whole process tree",
            "tree": "subreaper of each job, and of its fork server",
            "memory": f"RLIMIT_DATA per process; the tree is measured every {_WATCH_EVERY:g} s",
            "processes": f"the tree is counted every {_WATCH_EVERY:g} s",
            "files": "RLIMIT_NOFILE",
            "file_size": "RLIMIT_FSIZE",
        }

    async def stop(self) -> None:
        """End every worker and fork server; attempts under way end as they can."""
        self._is_stopping = True
        if self._look is not None:
            self._look.cancel()
        servers = list(self._servers.values())
        for server in servers:
            server.hang_up()
        await asyncio.gather(*(server.ended(5.0) for server in servers))
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._removing.shutdown(wait=False, cancel_futures=True)  # the whole folder goes now
        self._watching.shutdown(wait=True)
        self._files.shutdown(wait=True)
        self._readers.close()
        shutil.rmtree(self._options.folder, ignore_errors=True)


def _result_error(message: str) -> bytes:
    import msgspec

    return msgspec.json.encode({"type": "ResultError", "message": message, "exit_code": 1})
