"""What a call costs with many idle connections, many scripts, many finished jobs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from loads import connect_resp, run_load
from measure import Figure, MeasureError, Row, Target
from place import SCRIPTS, Place, RunningNode

_CONNECTIONS = 1_000
_SCRIPTS = 1_000
_JOBS = 1_000_000


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject: one call's cost is the whole machine's time for it, at 16 connections."""
    before = _cost("with none of it", place, place.node())
    return [
        Row(
            f"growth: {what}",
            _prepared(f"with {what}", place, prepare),
            [before],
            [Target("≤", most, before)],
        )
        for what, most, prepare in (
            (f"{_CONNECTIONS:,} idle connections", 1.2, _with_connections),
            (f"{_SCRIPTS:,} scripts", 1.2, _with_scripts),
            (f"{_JOBS:,} finished jobs", 1.5, with_jobs),
        )
    ]


def _cost(name: str, place: Place, node: RunningNode) -> Figure:
    load = run_load(place, node, "hello")
    return Figure(name, "ms", lambda: 1000 / load.rate(16))


def _prepared(name: str, place: Place, prepare: Callable[[Place], RunningNode]) -> Figure:
    try:
        return _cost(name, place, prepare(place))
    except MeasureError as error:
        return Figure(name, "ms", None, str(error))


def _with_connections(place: Place) -> RunningNode:
    node = place.node()
    for _ in range(_CONNECTIONS):
        place.keep(connect_resp(node))
    return node


def _with_scripts(place: Place) -> RunningNode:
    folder = place.folder / "scripts"
    folder.mkdir(mode=0o755)
    source = SCRIPTS / "hello.py"
    shutil.copy(source, folder)
    for number in range(_SCRIPTS - 1):
        shutil.copy(source, folder / f"hello_{number}.py")
    return place.node(scripts=folder)


def with_jobs(place: Place) -> RunningNode:
    """Start a node with very many finished jobs."""
    data = place.new_data()
    with_one = place.node(data=data)
    run_load(place, with_one, "hello").rate(1)
    place.stop(with_one)
    _copy_jobs(data / "remoterun.sqlite3")
    return place.node(data=data, settings={"RETENTION_JOBS": "100000000", "RETENTION_BYTES": "1000GB"})


def _copy_jobs(path: Path) -> None:
    """Copy the newest job and its events until there are as many as wanted, with ids of their own."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous=OFF")
        database.execute("CREATE TEMP TABLE newest AS SELECT * FROM jobs ORDER BY id DESC LIMIT 1")
        database.execute("CREATE TEMP TABLE log AS SELECT * FROM events WHERE job_id = (SELECT id FROM newest)")
        for table, source, identity in (("jobs", "newest", "id"), ("events", "log", "job_id")):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            chosen = ", ".join(_COPIED_ID if name == identity else name for name in columns)
            database.execute(f"{_NUMBERS} INSERT INTO {table} SELECT {chosen} FROM numbers, {source}", (_JOBS,))
        database.execute("UPDATE totals SET jobs = (SELECT count(*) FROM jobs), bytes = (SELECT sum(size) FROM jobs)")
    finally:
        database.close()


_NUMBERS = "WITH RECURSIVE numbers(number) AS (VALUES (1) UNION ALL SELECT number + 1 FROM numbers WHERE number < ?)"
_COPIED_ID = "printf('00000000-0000-7000-8000-%012x', number)"
