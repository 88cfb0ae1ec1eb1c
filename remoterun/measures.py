"""What is counted while a node works: plain numbers in lists, so that counting costs a call less than a microsecond."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from remoterun.metrics import COMMIT_SECONDS, LAG_SECONDS, QUEUE_SECONDS, RUN_SECONDS
from remoterun.states import State

MOST_SCRIPTS: Final = 200  # with counts of their own; scripts come and go, and each is some thirty time series
OTHERS: Final = "(others)"  # no script's name: those hold no parentheses


class Distribution:
    """How many of some values lie up to each bound, and their sum: a histogram.

    Parameters:
        bounds: in ascending order; a value on one belongs below it.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class ScriptMeasures:
    """The ends of a script's jobs, by state, and how long they ran."""

    __slots__ = ("ends", "run")

    def __init__(self) -> None:
        self.ends: dict[State, int] = {}
        self.run = Distribution(RUN_SECONDS)


class Measures:
    """What a dispatcher counts since its start, beside the counters that everyone sees."""

    def __init__(self) -> None:
        self.queue = Distribution(QUEUE_SECONDS)
        self.lag = Distribution(LAG_SECONDS)
        self.removed = 0  # jobs, by retention
        self._scripts: dict[str, ScriptMeasures] = {}

    def ended(self, script: str, state: State, seconds: float | None) -> None:
        """Count the end of a job.

        Parameters:
            seconds: that its last attempt took; None where it never started.
        """
        measures = self._scripts.get(script) or self._new(script)
        measures.ends[state] = measures.ends.get(state, 0) + 1
        if seconds is not None:
            measures.run.add(seconds)

    def _new(self, script: str) -> ScriptMeasures:
        name = script if len(self._scripts) < MOST_SCRIPTS else OTHERS
        return self._scripts.setdefault(name, ScriptMeasures())

    def by_script(self) -> Iterator[tuple[str, ScriptMeasures]]:
        """Iterate over the scripts that had jobs; those beyond the first 200 are one, `(others)`."""
        return iter(sorted(self._scripts.items()))


class StoreMeasures:
    """What a store counts since it was opened."""

    def __init__(self) -> None:
        self.commits = Distribution(COMMIT_SECONDS)
        self.failed_commits = 0
