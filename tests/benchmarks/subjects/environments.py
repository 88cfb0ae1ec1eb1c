"""A script with pandas in an environment of its own: the first call ever, the first of a node, the next ones."""

from __future__ import annotations

import json
import time
import urllib.request

from loads import command_time, run_load
from measure import Figure, Row, Target, absent
from place import FLOORS, HERE, Place, RunningNode
from remoterun.environments.uv import NoUv, find_uv

_SCRIPTS = HERE / "environment_scripts"
_SCRIPT = "pandas_own"
_LONGEST = 600.0  # seconds of a first call


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    try:
        uv = find_uv()
    except NoUv as error:
        return [Row("pandas, environment of its own", absent(_SCRIPT, "ms", str(error)))]
    with_uv = [uv, "run", "--quiet", "--script", str(_SCRIPTS / f"{_SCRIPT}.py")]
    uv_run = Figure("uv run pandas_own.py", "ms", lambda: command_time(with_uv, count=1))
    command_time(with_uv, count=1)  # uv has its packages in its cache from then on, for us too
    node = place.node(scripts=_SCRIPTS)
    _first_call(node)
    load = run_load(place, node, _SCRIPT)

    def cold() -> float:
        fresh = place.node(scripts=_SCRIPTS)
        took = _first_call(fresh)
        place.stop(fresh)
        return took

    def built() -> float:
        again = place.node(scripts=_SCRIPTS, data=kept)
        took = _first_call(again)
        place.stop(again)
        return took

    first = place.node(scripts=_SCRIPTS)
    _first_call(first)
    place.stop(first)
    kept = first.data
    (python,) = kept.glob("environments/*/bin/python")
    by_hand = Figure(
        "its python pandas_mean.py", "ms", lambda: command_time([str(python), str(FLOORS / "pandas_mean.py")], count=3)
    )
    what = "pandas, own environment"
    forked = Figure("forked", "ms", load.milliseconds)
    return [
        Row(f"{what}: built by the first call", Figure("cold", "ms", cold), [uv_run]),
        Row(f"{what}: built, a node's first call", Figure("built", "ms", built), [uv_run]),
        Row(f"{what}, preloaded: one at a time", forked, [by_hand, uv_run], [Target("≤", 1 / 20, by_hand)]),
    ]


def _first_call(node: RunningNode) -> float:
    """Give the milliseconds of one call."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.http}/run/{_SCRIPT}",
        json.dumps({"name": "Ada"}).encode(),
        {"Authorization": f"Bearer {node.token}", "Content-Type": "application/json"},
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=_LONGEST) as answer:
        answer.read()
    return (time.perf_counter() - began) * 1000
