"""A fresh process for each call, over HTTP."""

from __future__ import annotations

import sys

from loads import command_time, run_load
from measure import Figure, Row, Target
from place import FLOORS, Place, output_of

_FORKS = 1000


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    node = place.node()
    fork, spawn = run_load(place, node, "hello_fork"), run_load(place, node, "hello_spawn")
    loop = Figure("os.fork loop", "/s", _fork_rate)
    by_hand = Figure("python hello.py", "ms", lambda: command_time([sys.executable, str(FLOORS / "hello.py"), "Ada"]))
    return [
        Row(
            "fork: 16 connections",
            Figure("hello_fork", "/s", lambda: fork.rate(16)),
            [loop],
            [Target("≥", 900), Target("≥", 0.5, loop)],
        ),
        Row("fork: one at a time", Figure("hello_fork", "ms", fork.milliseconds), [by_hand], [Target("≤", 3)]),
        Row("spawn: 16 connections", Figure("hello_spawn", "/s", lambda: spawn.rate(16))),
        Row("spawn: one at a time", Figure("hello_spawn", "ms", spawn.milliseconds), [by_hand]),
    ]


def _fork_rate() -> float:
    return float(output_of([sys.executable, str(FLOORS / "fork_loop.py"), str(_FORKS)]))
