"""The warm workers of every version of every script: who is idle, who is busy, how quick their calls are.

A worker that sleeps between two calls costs more than many a call: it is put to sleep and woken again. So a busy
worker may be handed further calls *ahead*, which it begins by itself, one after the other. That is done only
where calls have been quick for a while; calls that stand behind one that is not are taken back.
"""

from __future__ import annotations

from remoterun.workers.interface import Program
from remoterun.workers.run import Run
from remoterun.workers.worker import Worker

_AHEAD = 8  # calls that a busy worker is handed at most; a third more calls/s, and no more with sixteen
_QUICK_FOR = 64  # calls that must have been quick, one after the other, before any is handed ahead

Key = tuple[str, str]  # name and version


class _Version:
    __slots__ = ("busy", "idle", "until_quick")

    def __init__(self) -> None:
        self.idle: list[Worker] = []
        self.busy: dict[Worker, None] = {}  # in the order in which they became busy
        self.until_quick = _QUICK_FOR


class WarmWorkers:
    """Keep account of warm workers."""

    def __init__(self) -> None:
        self._versions: dict[Key, _Version] = {}

    def take(self, program: Program) -> Worker | None:
        """Take the worker that was idle for the shortest time: its caches are warm, and the others may be let go."""
        version = self._versions.get((program.name, program.version))
        if version is None or not version.idle:
            return None
        worker = version.idle.pop()
        version.busy[worker] = None
        return worker

    def ahead(self, program: Program) -> Worker | None:
        """Give the busy worker that a further call may be handed to, or None."""
        version = self._versions.get((program.name, program.version))
        if version is None or version.until_quick or not version.busy:
            return None
        worker = min(version.busy, key=_calls_ahead)
        return worker if len(worker.ahead) < _AHEAD else None

    def add(self, program: Program, worker: Worker) -> None:
        """Note a new worker, which is busy."""
        key = (program.name, program.version)
        self._versions.setdefault(key, _Version()).busy[worker] = None

    def replied(self, program: Program, was_slow: bool) -> None:
        """Note how quick a call was."""
        version = self._versions.get((program.name, program.version))
        if version is not None:
            version.until_quick = _QUICK_FOR if was_slow else max(0, version.until_quick - 1)

    def hand_none_ahead(self, program: Program) -> None:
        """Note that a call is slow; until others have been quick for a while, none is handed ahead."""
        self.replied(program, True)

    def with_calls_ahead(self) -> list[tuple[Worker, Run]]:
        """List the workers that have calls ahead, with the call that each runs."""
        return [
            (worker, worker.run)
            for version in self._versions.values()
            for worker in version.busy
            if worker.ahead and worker.run is not None
        ]

    def rests(self, program: Program, worker: Worker) -> None:
        """Note that a worker has nothing to do."""
        version = self._versions[program.name, program.version]
        version.busy.pop(worker, None)
        version.idle.append(worker)

    def forget(self, worker: Worker) -> None:
        """Note that a worker is gone, or may not be used again."""
        for key, version in list(self._versions.items()):
            version.busy.pop(worker, None)
            if worker in version.idle:
                version.idle.remove(worker)
            if not version.idle and not version.busy:
                del self._versions[key]

    @property
    def idle(self) -> int:
        """How many have nothing to do."""
        return sum(len(version.idle) for version in self._versions.values())

    def idle_since(self, moment: float) -> list[Worker]:
        """List the workers that have been idle from a moment on, in loop time."""
        return [worker for version in self._versions.values() for worker in version.idle if worker.idle_since < moment]

    def of_other_versions(self, program: Program) -> list[Worker]:
        """List the idle workers of a script's other versions."""
        return [
            worker
            for (name, version), workers in self._versions.items()
            if name == program.name and version != program.version
            for worker in workers.idle
        ]


def _calls_ahead(worker: Worker) -> int:
    return len(worker.ahead)
