"""Jobs that are on disk before they are answered."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from loads import HttpLoad
from measure import Figure, MeasureError, Row, Target
from place import Place

_COMMITS = 2000
_ROWS = "INSERT INTO jobs VALUES (?, ?)"
_BODY = b'{"id":"","script":"hello","state":"queued","params":{"name":"Ada"}}' * 6  # what a record takes


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject.

    The first one fills the queue behind a script that holds its only place, so that nothing else is measured
    with it; in the second the jobs also run, each with two more writes of its own.
    """
    node = place.node(settings={"QUEUE": "10000000", "LIMITS_WAITING": "4GB"})
    if node.http is None:
        raise MeasureError("the node has no transport http")
    waiting, running = (
        HttpLoad(place, port, "/jobs", {"script": script, "params": {"name": "Ada"}}, token)
        for port, token, script in ((node.http, node.token, "one_at_a_time"), (node.http, node.token, "hello"))
    )
    folder = place.folder
    single = Figure("SQLite FULL, 1 row a commit", "/s", lambda: _commits(folder, 1))
    grouped = Figure("SQLite FULL, 16 rows a commit", "/s", lambda: _commits(folder, 16))
    return [
        Row(
            "submit: 16 connections, jobs wait",
            Figure("POST /jobs", "/s", lambda: waiting.rate(16)),
            [single, grouped],
            [Target("≥", 5_000)],
        ),
        Row("submit: 16 connections, jobs run meanwhile", Figure("POST /jobs", "/s", lambda: running.rate(16))),
    ]


def _commits(folder: Path, together: int) -> float:
    """Give the rows a second that SQLite takes at synchronous=FULL, `together` in each transaction."""
    path = folder / "commits.sqlite3"
    database = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, body BLOB)")
        began = time.perf_counter()
        for start in range(0, _COMMITS, together):
            database.execute("BEGIN IMMEDIATE")
            database.executemany(_ROWS, [(start + n, _BODY) for n in range(together)])
            database.execute("COMMIT")
        return _COMMITS / (time.perf_counter() - began)
    finally:
        database.close()
        for file in folder.glob("commits.sqlite3*"):
            file.unlink()
