"""Writes that are not on disk yet: gathered by job, taken as one group, put back where the disk failed; pure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from remoterun.messages import Event, Job, Refusal
from remoterun.store.interface import Extra


class Step:
    """A write. Those that nobody waits for are merged; one that somebody awaits stays apart, to be taken back."""

    __slots__ = ("events", "extra", "job", "waiter")

    def __init__(self, job: Job, extra: Extra | None, events: list[Event], waiter: asyncio.Future[None] | None) -> None:
        self.job = job
        self.extra = extra
        self.events = events
        self.waiter = waiter


Steps = list[Step]  # of one job, in order; the last says how the job stands


class Pending:
    """What the next group will hold."""

    __slots__ = ("jobs", "refusals")

    def __init__(self) -> None:
        self.jobs: dict[str, Steps] = {}
        self.refusals: list[Refusal] = []

    def add(self, job: Job, extra: Extra | None, events: Sequence[Event]) -> None:
        """Add a write that nobody waits for."""
        steps = self.jobs.get(job.id)
        if steps is None:
            self.jobs[job.id] = [Step(job, extra, [*events], None)]
        else:
            _append(steps, Step(job, extra, [*events], None))

    def add_durable(self, job: Job, extra: Extra | None, events: Sequence[Event], waiter: asyncio.Future[None]) -> None:
        """Add a write that somebody waits for."""
        self.jobs.setdefault(job.id, []).append(Step(job, extra, [*events], waiter))

    def put_back(self, failed: Iterable[Steps]) -> None:
        """Take back the awaited writes of a group that failed; put its other ones under those made since."""
        newer, self.jobs = self.jobs, {}
        for steps in failed:
            kept: Steps = []
            job_id = steps[0].job.id
            for step in (*(step for step in steps if step.waiter is None), *newer.pop(job_id, ())):
                _append(kept, step)
            if kept:
                self.jobs[job_id] = kept
        self.jobs.update(newer)


def _append(steps: Steps, step: Step) -> None:
    if steps and steps[-1].waiter is None and step.waiter is None:
        last = steps[-1]
        last.job = step.job
        last.extra = step.extra
        last.events += step.events
    else:
        steps.append(step)
