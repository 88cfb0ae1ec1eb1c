"""How a group of writes becomes rows.

Rows go in as multi-row VALUES. What counts is not the rows a second of this thread alone but what it
takes from the event loop's thread: the driver lets go of the interpreter's lock and takes it again
for every step of a statement. Measured with 20,000 jobs a second beside a busy loop (2 cores, Python
3.11, SQLite 3.40; slowdown of the loop, CPU of this thread):

    executemany            x 1.48, and falling behind   19.7 us a job
    VALUES of 16 rows      x 1.49, and falling behind   17.7 us
    VALUES of 64 rows      x 1.10                       12.8 us
    VALUES of 256 rows     x 1.05                       11.9 us
    json_each, one text    x 1.01, half the rows/s      24.1 us

SQLAlchemy writes the statements; the driver runs them, which takes 2 us each where `Connection.execute`
takes 15: an awaited write of a single job is seven statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import sqlite

from remoterun.messages import Event, Job, Refusal, encode
from remoterun.states import FINAL
from remoterun.store.codec import encode_job
from remoterun.store.pending import Steps
from remoterun.store.schema import events, jobs, refusals

Row = tuple[Any, ...]

CHUNK = 64  # events in one row: what a reader of one event decodes at most
REFUSALS = 100_000  # kept

_BATCHES = (256, 32, 4, 1)  # rows in one statement; each size is prepared once
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    """Give whole microseconds since 1970; a time without a zone is UTC."""
    delta = (time if time.tzinfo is not None else time.replace(tzinfo=UTC)) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


class Encoded(NamedTuple):
    """The writes of one job in a group, ready for the database."""

    row: Row  # of jobs, as if nothing of the job were there yet
    events: list[Row]


def encode_steps(steps: Steps) -> Encoded:
    """Encode what a job's writes come to.

    It runs on the event loop's thread. In the owner's it would take as long, and each look of the owner at the
    interpreter's lock costs both threads far more than the work.

    Raises:
        UnicodeEncodeError, TypeError, ValueError: a value cannot be written as JSON.
    """
    last = steps[-1]
    added = last.events if len(steps) == 1 else [event for step in steps for event in step.events]
    rows = [(last.job.id, part[-1].n, encode(part)) for part in _parts(added)]
    extra = None if last.extra is None else encode(last.extra)
    log = sum([len(body) for _, _, body in rows])
    files = 0 if last.extra is None else sum([file.size for file in last.extra.files])
    return Encoded(_job_row(last.job, encode_job(last.job), extra, log, files), rows)


def write_group(driver: sqlite3.Connection, group: Sequence[Encoded]) -> None:
    """Write jobs and events and keep the totals right; inside the caller's transaction."""
    job_rows = [item.row for item in group]
    ended_jobs = ended_bytes = 0
    known = _known(driver, [row[0] for row in job_rows])
    if known:
        for position, row in enumerate(job_rows):
            if row[0] in known:
                was_ended, size, log = known[row[0]]
                ended_jobs -= was_ended
                ended_bytes -= size if was_ended else 0
                job_rows[position] = (*row[:_SIZE], row[_SIZE] + log, row[_LOG] + log, *row[_LOG + 1 :])
    for row in job_rows:
        if row[_ENDED] is not None:
            ended_jobs += 1
            ended_bytes += row[_SIZE]
    _JOBS.execute(driver, job_rows)
    _EVENTS.execute(driver, [row for item in group for row in item.events])
    if ended_jobs or ended_bytes:
        add_totals(driver, ended_jobs, ended_bytes)


def add_totals(driver: sqlite3.Connection, ended_jobs: int, ended_bytes: int) -> None:
    """Add to the totals; zeros write the row all the same, which shows whether the disk takes anything."""
    driver.execute("UPDATE totals SET jobs = jobs + ?, bytes = bytes + ? WHERE id = 1", (ended_jobs, ended_bytes))


def write_refusals(driver: sqlite3.Connection, new: Sequence[Refusal]) -> None:
    """Write refused calls and forget the oldest beyond what is kept; inside the caller's transaction."""
    _REFUSALS.execute(driver, [(None, encode(refusal)) for refusal in new])
    driver.execute("DELETE FROM refusals WHERE id <= (SELECT max(id) FROM refusals) - ?", (REFUSALS,))


def _parts(added: list[Event]) -> list[list[Event]]:
    if 0 < len(added) <= CHUNK:
        return [added]
    return [added[start : start + CHUNK] for start in range(0, len(added), CHUNK)]


def _known(driver: sqlite3.Connection, ids: list[str]) -> dict[str, tuple[bool, int, int]]:
    found = driver.execute(
        "SELECT id, ended IS NOT NULL, size, log FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
        (encode(ids).decode(),),
    )
    return {job_id: (bool(ended), size, log) for job_id, ended, size, log in found}


_ENDED, _SIZE, _LOG = 5, 7, 8  # positions in a row of jobs


def _job_row(job: Job, body: bytes, extra: bytes | None, log: int, files: int) -> Row:
    size = len(body) + log + files
    if extra is not None:
        size += len(extra)
    for artifact in job.artifacts:
        size += artifact.size
    created = micros(job.created)
    ended = None if job.state not in FINAL else created if job.ended is None else micros(job.ended)
    return (
        job.id,
        job.script,
        job.state.value,
        job.principal,
        created,
        ended,
        job.key,
        size,
        log,
        body,
        extra,
    )


class _Rows:
    """An INSERT for any number of rows, run in batches of fixed sizes so that each is prepared once."""

    def __init__(self, insert: Insert) -> None:
        sql = str(insert.compile(dialect=sqlite.dialect(paramstyle="qmark")))
        row = "(" + ", ".join("?" * len(_table(insert).columns)) + ")"
        self._batches = [(count, sql.replace(row, ", ".join([row] * count), 1)) for count in _BATCHES]

    def execute(self, driver: sqlite3.Connection, rows: Sequence[Row]) -> None:
        start = 0
        for count, sql in self._batches:
            while len(rows) - start >= count:
                batch = rows[start : start + count]
                driver.execute(sql, tuple(chain.from_iterable(batch)))
                start += count


def _table(insert: Insert) -> Table:
    assert isinstance(insert.table, Table)
    return insert.table


def _insert_jobs() -> Insert:
    insert = sqlite.insert(jobs)
    changing = ("state", "ended", "size", "log", "job", "extra")
    return insert.on_conflict_do_update(
        index_elements=[jobs.c.id], set_={name: insert.excluded[name] for name in changing}
    )


_JOBS = _Rows(_insert_jobs())
_EVENTS = _Rows(sqlite.insert(events).prefix_with("OR REPLACE"))
_REFUSALS = _Rows(sqlite.insert(refusals))
