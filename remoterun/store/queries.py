"""What is read from the database, and what is pruned."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    and_,
    cast,
    delete,
    func,
    select,
    true,
    update,
)

from remoterun.messages import Event, Job, JobQuery, Refusal, decode
from remoterun.states import FINAL, State
from remoterun.store import schema
from remoterun.store.codec import decode_job
from remoterun.store.interface import Bounds, Extra, Record
from remoterun.store.records import micros
from remoterun.store.schema import jobs, refusals, totals

# An id is made about when `created` is taken, and not at that very moment. A range of times is first cut
# out by ids, which have an index, this much wider; `created` then decides.
_SLACK_MS = 10_000
_SCAN = 2000  # jobs looked at in one step of a listing, about 4 ms
_GLANCE = 1000  # entries of an index counted to see whether it is the narrowest
_STEP_BYTES = 64 * 2**20  # removed at most in one transaction, unless one job alone is larger

# What JSON writes as it is and LIKE takes for itself: no escape, quote or wildcard, and letters whose case it knows.
_PLAIN = re.compile(r"[!#$&-Z^`-~ \[\]]+")

_RECORD = select(jobs.c.job, jobs.c.extra)
_OPEN = [state.value for state in State if state not in FINAL]


def get(connection: Connection, job_id: str) -> Record | None:
    """Give one job, or None."""
    return _first(connection, _RECORD.where(jobs.c.id == job_id))


def find_key(connection: Connection, principal: str, key: str, since: datetime) -> Record | None:
    """Give the newest job with this key by this principal, created since then, or None."""
    query = _RECORD.where(jobs.c.principal == principal, jobs.c.key == key, jobs.c.created >= micros(since))
    return _first(connection, query.order_by(jobs.c.id.desc()))


def unfinished(connection: Connection) -> list[Record]:
    """Give every job whose state is not final, oldest first."""
    rows = connection.execute(_RECORD.where(jobs.c.state.in_(_OPEN)))
    return sorted((_record(job, extra) for job, extra in rows), key=lambda record: record.job.id)


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a step of a listing found; `resume` is the last job looked at, or None if there are no more."""

    jobs: list[Job]
    resume: str | None


def scan_jobs(connection: Connection, query: JobQuery, principal: str | None) -> Scanned:
    """Look at some of the jobs that a page may hold, newest first, and give those that it does hold.

    One index serves one condition; the others, and the text, are checked job by job. How many are looked at is bounded,
    so that writes get their turn: somebody may ask for a few jobs among millions.
    """
    wanted = [(jobs.c.principal, principal), (jobs.c.script, query.script), (jobs.c.state, query.state)]
    conditions = [column == str(value) for column, value in wanted if value is not None]
    bounds, created = _bounds(query)
    first = _narrowest(connection, conditions, bounds)
    checks = [condition for condition in conditions if condition is not first] + created
    if query.text is not None:
        checks.append(_may_mention(query.text))
    statement = select(jobs.c.id, and_(true(), *checks).label("matches"), jobs.c.job).where(*bounds)
    if first is not None:
        statement = statement.where(first)
    looked_at = max(_SCAN, query.limit) if checks else query.limit
    found: list[Job] = []
    last: str | None = None
    count = 0
    with connection.execute(statement.order_by(jobs.c.id.desc()).limit(looked_at)) as rows:
        for job_id, matches, body in rows:
            last = job_id
            count += 1
            if not matches:
                continue
            job = decode_job(body)
            if query.text is None or job.mentions(query.text):
                found.append(job)
                if len(found) == query.limit:
                    break
    return Scanned(found, last if count == looked_at or len(found) == query.limit else None)


def events(connection: Connection, job_id: str, after: int, limit: int) -> list[Event]:
    """Give up to `limit` events with numbers above `after`, in order."""
    table = schema.events
    query = select(table.c.body).where(table.c.job_id == job_id, table.c.last_n > after).order_by(table.c.last_n)
    found: list[Event] = []
    with connection.execute(query) as rows:
        for row in rows:
            chunk: list[Event] = decode(row.body, list[Event])
            found += [event for event in chunk if event.n > after]
            if len(found) >= limit:
                break
    return found[:limit]


def last_event(connection: Connection, job_id: str) -> int:
    """Give the number of the newest event, or 0."""
    table = schema.events
    newest = select(table.c.last_n).where(table.c.job_id == job_id).order_by(table.c.last_n.desc()).limit(1)
    return connection.execute(newest).scalar() or 0


def list_refusals(connection: Connection, limit: int) -> list[Refusal]:
    """Give the newest refused calls, newest first."""
    query = select(refusals.c.body).order_by(refusals.c.id.desc()).limit(limit)
    return [decode(row.body, Refusal) for row in connection.execute(query)]


def prune(connection: Connection, bounds: Bounds, step: int) -> list[str]:
    """Remove up to `step` ended jobs beyond the bounds; inside the caller's transaction."""
    chosen = _beyond(connection, bounds, step)
    if not chosen:
        return []
    ids = [row.id for row in chosen]
    connection.execute(delete(schema.events).where(schema.events.c.job_id.in_(ids)))
    connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
    freed = sum(row.size for row in chosen)
    connection.execute(update(totals).values(jobs=totals.c.jobs - len(ids), bytes=totals.c.bytes - freed))
    return ids


def _beyond(connection: Connection, bounds: Bounds, step: int) -> list[Row[str, int, int]]:
    total = connection.execute(select(totals.c.jobs, totals.c.bytes)).one()
    spare_jobs, spare_bytes = bounds.jobs - total.jobs, bounds.bytes - total.bytes
    before = micros(bounds.before)
    query = select(jobs.c.id, jobs.c.size, jobs.c.created).where(jobs.c.ended.is_not(None))
    if spare_jobs >= 0 and spare_bytes >= 0:
        query = query.where(jobs.c.id < _id_at(before // 1000 + _SLACK_MS), jobs.c.created < before)
    chosen: list[Row[str, int, int]] = []
    removed = 0
    for row in connection.execute(query.order_by(jobs.c.id).limit(step)):
        if row.created >= before and spare_jobs >= 0 and spare_bytes >= 0:
            continue
        if chosen and removed + row.size > _STEP_BYTES:
            break
        chosen.append(row)
        removed += row.size
        spare_jobs += 1
        spare_bytes += row.size
    return chosen


def _bounds(query: JobQuery) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """Give the limits of a page: of its ids, which every index has, and the exact ones of its times."""
    ids: list[ColumnElement[bool]] = []
    times: list[ColumnElement[bool]] = []
    if query.before is not None:
        ids.append(jobs.c.id < query.before)
    if query.since is not None:
        since = micros(query.since)
        ids.append(jobs.c.id >= _id_at(since // 1000 - _SLACK_MS))
        times.append(jobs.c.created >= since)
    if query.until is not None:
        until = micros(query.until)
        ids.append(jobs.c.id < _id_at(until // 1000 + _SLACK_MS))
        times.append(jobs.c.created < until)
    return ids, times


def _may_mention(text: str) -> ColumnElement[bool]:
    """Give what holds of every job that mentions a text, and of few others: its plainest part stands in the JSON."""
    plainest = max(_PLAIN.findall(text), key=len, default="")
    return cast(jobs.c.job, Text).like(f"%{plainest}%")


def _narrowest(
    connection: Connection, conditions: list[ColumnElement[bool]], bounds: list[ColumnElement[bool]]
) -> ColumnElement[bool] | None:
    """Give the condition that fewest jobs meet, as far as a glance at each index tells."""
    if len(conditions) < 2:
        return conditions[0] if conditions else None

    def glance(condition: ColumnElement[bool]) -> int:
        some = select(jobs.c.id).where(condition, *bounds).limit(_GLANCE).subquery()
        return connection.execute(select(func.count()).select_from(some)).scalar_one()

    return min(conditions, key=glance)


def _id_at(millis: int) -> str:
    """Give what sorts before every UUIDv7 of this millisecond and after those of earlier ones."""
    digits = f"{min(max(millis, 0), 2**48 - 1):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def _first(connection: Connection, query: Select[bytes, bytes | None]) -> Record | None:
    row = connection.execute(query.limit(1)).first()
    return None if row is None else _record(row.job, row.extra)


def _record(job: bytes, extra: bytes | None) -> Record:
    return Record(decode_job(job), None if extra is None else decode(extra, Extra))
