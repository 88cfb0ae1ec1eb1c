"""The jobs that wait for their script's environment: they hear how far it is, and go on or fail once it is settled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from remoterun.environments import EnvironmentFailed, Environments, Needs
from remoterun.environments.plan import Phase

if TYPE_CHECKING:
    from remoterun.live import LiveJob


class HeldJobs:
    """Jobs by the environment that they wait for, in the order in which they came.

    Parameters:
        settled: called with a job and why its environment cannot be built, or None where it is ready.
    """

    def __init__(self, environments: Environments, settled: Callable[[LiveJob, str | None], None]) -> None:
        self._environments = environments
        self._settled = settled
        self._jobs: dict[str, dict[LiveJob, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def must_wait(self, needs: Needs | None) -> bool:
        """Whether jobs of a script with these needs cannot start yet."""
        return needs is not None and not self._environments.is_ready(needs)

    def hold(self, job: LiveJob, needs: Needs) -> None:
        """Have a job wait."""
        try:
            build = self._environments.request(needs)
        except EnvironmentFailed as error:
            self._settled(job, str(error))
            return
        if needs.key not in self._jobs:
            self._jobs[needs.key] = {}
            build.on_phase.append(partial(self._advance, needs.key))
            build.on_end.append(partial(self._end, needs.key))
        self._jobs[needs.key][job] = None
        self._count += 1
        _tell(job, build.phase)

    def leave(self, job: LiveJob) -> None:
        """Let go of a job that no longer wants to run; the build goes on, for the next call."""
        needs = job.script.needs
        if needs is not None and job in self._jobs.get(needs.key, {}):
            del self._jobs[needs.key][job]
            self._count -= 1

    def _advance(self, key: str, phase: Phase) -> None:
        for job in self._jobs[key]:
            _tell(job, phase)

    def _end(self, key: str, reason: str | None) -> None:
        jobs = self._jobs.pop(key)
        self._count -= len(jobs)
        for job in jobs:
            self._settled(job, reason)


def _tell(job: LiveJob, phase: Phase) -> None:
    job.progress(phase.done, phase.total, phase.message)
