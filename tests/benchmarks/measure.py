"""Figures and what is asked of them: measured in rounds, each figure in turn, judged by medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["/s", "ms", "MB", "kB"]


@dataclass(eq=False)
class Figure:
    """Something that is measured once a round.

    Parameters:
        take: measures it, in its unit; None where it cannot be measured here.
        missing: why it cannot be.
        once: measured in the first round only; it does not vary, or takes long.
    """

    name: str
    unit: Unit
    take: Callable[[], float] | None
    missing: str = ""
    once: bool = False
    values: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Measure it once more; a measurement that fails is the last one, and its reason is kept."""
        if self.take is None or (self.once and self.values):
            return
        try:
            self.values.append(self.take())
        except (MeasureError, OSError) as error:
            self.take = None
            self.values.clear()
            self.missing = str(error)

    @property
    def median(self) -> float | None:
        """The median of the rounds; None where it was not measured."""
        return statistics.median(self.values) if self.values else None

    @property
    def spread(self) -> float:
        """Half of the distance between the least and the greatest value, as a part of the median."""
        if len(self.values) < 2 or not self.median:
            return 0.0
        return (max(self.values) - min(self.values)) / 2 / self.median


class MeasureError(Exception):
    """A figure cannot be measured; the text says why."""


def absent(name: str, unit: Unit, why: str) -> Figure:
    """Give a figure that cannot be measured here."""
    return Figure(name, unit, None, why)


@dataclass(frozen=True)
class Target:
    """What is asked of a figure: at least, or at most, an amount, or so many times another figure."""

    bound: Literal["≥", "≤"]
    amount: float
    of: Figure | None = None

    def is_met(self, figure: Figure) -> bool | None:
        """Tell whether it is met; None where something is not measured."""
        if figure.median is None:
            return None
        if self.of is None:
            return _holds(figure.median, self.bound, self.amount)
        ratio = ratio_of(figure, self.of)
        return None if ratio is None else _holds(ratio, self.bound, self.amount)

    def text(self, unit: Unit) -> str:
        """Say it in words."""
        if self.of is None:
            return f"{self.bound} {number(self.amount, unit)}"
        return f"{self.bound} {self.amount:.3g} × {self.of.name}"


@dataclass(frozen=True)
class Row:
    """A line of the table: our figure, the floors beside it, the targets."""

    what: str
    figure: Figure
    floors: Sequence[Figure] = ()
    targets: Sequence[Target] = ()


def ratio_of(figure: Figure, other: Figure) -> float | None:
    """Give figure : other; the median of the rounds, since a noisy machine is noisy for both."""
    if not figure.values or not other.values:
        return None
    if len(figure.values) == len(other.values):
        return statistics.median(a / b for a, b in zip(figure.values, other.values, strict=True))
    return statistics.median(figure.values) / statistics.median(other.values)


def run_rounds(rows: Sequence[Row], rounds: int) -> None:
    """Measure every figure of the rows, in turn, so that what slows the machine slows all alike."""
    figures = list(dict.fromkeys(figure for row in rows for figure in (row.figure, *row.floors)))
    for _ in range(rounds):
        for figure in figures:
            figure.measure()


def number(value: float, unit: Unit) -> str:
    """Write a value with its unit."""
    if unit == "/s":
        return f"{value:,.0f}/s"
    return f"{value:.3f} ms" if unit == "ms" and value < 1 else f"{value:.1f} {unit}"


def _holds(value: float, bound: Literal["≥", "≤"], amount: float) -> bool:
    return value >= amount if bound == "≥" else value <= amount
