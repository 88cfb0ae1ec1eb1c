"""A script that imports pandas: forked with it loaded, against by hand."""

from __future__ import annotations

import importlib.util
import sys

from loads import command_time, run_load
from measure import Figure, Row, Target, absent
from place import FLOORS, Place


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    what = "pandas preloaded, fork: one at a time"
    if importlib.util.find_spec("pandas") is None:
        return [Row(what, absent("pandas_mean", "ms", "pandas is not installed: pip install 'remoterun[bench]'"))]
    load = run_load(place, place.node(), "pandas_mean")
    load.milliseconds()  # the fork server imports pandas before the first call, not in it
    by_hand = Figure(
        "python pandas_mean.py",
        "ms",
        lambda: command_time([sys.executable, str(FLOORS / "pandas_mean.py")], count=3),
    )
    return [Row(what, Figure("pandas_mean", "ms", load.milliseconds), [by_hand], [Target("≤", 1 / 20, by_hand)])]
