"""Every query of the store is served by an index, in the order that it wants: fast with millions of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from sqlalchemy import Connection, create_engine, event

from remoterun.messages import Job, JobQuery, encode
from remoterun.states import State
from remoterun.store import queries
from remoterun.store.interface import Bounds
from remoterun.store.migrate import create
from remoterun.store.records import micros

AT = datetime(2026, 11, 1, tzinfo=UTC)
_MILLIS = f"{int(AT.timestamp() * 1000):012x}"
ID = f"{_MILLIS[:8]}-{_MILLIS[8:]}-7000-8000-000000000000"


@pytest.fixture
def connection() -> Iterator[Connection]:
    with create_engine("sqlite://", isolation_level="AUTOCOMMIT").connect() as connection:
        create(connection)
        yield connection
    connection.engine.dispose()


class Plans:
    """Gathers what SQLite says that it will do for each SELECT and DELETE."""

    def __init__(self, connection: Connection) -> None:
        self.lines: list[str] = []
        self._explaining = False
        event.listen(connection, "before_cursor_execute", self._explain)

    def _explain(
        self, connection: Connection, cursor: object, sql: str, values: tuple[object, ...], *_: object
    ) -> None:
        if self._explaining:
            return
        self._explaining = True
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
        self.lines += [row.detail for row in rows]
        self._explaining = False


def fill(connection: Connection) -> None:
    """Make 30 jobs: many by ada, of script `often`, that succeeded; few by bob, of `seldom`, that failed."""
    for number in range(30):
        seldom = number % 10 == 0
        names = ("seldom", "failed", "bob") if seldom else ("often", "succeeded", "ada")
        job = Job(
            id=f"{ID[:-2]}{number:02d}",
            script=names[0],
            version="v",
            state=State(names[1]),
            attempt=1,
            created=AT,
            principal=names[2],
            transport="t",
            node="n",
        )
        connection.exec_driver_sql(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, 1, NULL, 1, 0, ?, NULL)",
            (job.id, *names, micros(AT), encode(job)),
        )


def index_of(script: str | None, state: State | None, principal: str | None) -> str:
    """Give the index that serves the narrowest condition; the first of them, where several are."""
    given = [("principal", principal), ("script", script), ("state", state)]
    conditions = [(name, str(value)) for name, value in given if value is not None]
    if not conditions:
        return "sqlite_autoindex_jobs_1"
    seldom = [name for name, value in conditions if value in ("bob", "seldom", "failed")]
    return f"jobs_by_{(seldom or [conditions[0][0]])[0]}"


def test_every_page_is_read_from_the_narrowest_index_in_its_order(connection: Connection) -> None:
    fill(connection)
    plans = Plans(connection)
    for script, state, principal, since, until, before in product(
        (None, "often", "seldom"),
        (None, State.SUCCEEDED, State.FAILED),
        (None, "ada", "bob"),
        (None, AT),
        (None, AT + timedelta(seconds=1)),
        (None, ID[:-2] + "99"),
    ):
        plans.lines.clear()
        query = JobQuery(script=script, state=state, since=since, until=until, before=before, limit=5)
        queries.scan_jobs(connection, query, principal)
        page = plans.lines[-1]
        assert f"INDEX {index_of(script, state, principal)}" in page
        assert not any("TEMP B-TREE" in line for line in plans.lines)
        assert all("USING COVERING INDEX" in line for line in plans.lines[:-1] if line.startswith("SEARCH"))
        if since or until or before:
            assert "id<?" in page or "id>?" in page


def test_a_step_of_a_listing_looks_at_a_bounded_number_of_jobs(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(connection)
    monkeypatch.setattr(queries, "_SCAN", 4)
    query = JobQuery(script="seldom", state=State.SUCCEEDED, limit=2)
    step = queries.scan_jobs(connection, query, None)
    assert step == queries.Scanned([], None)  # three of that script, none of which succeeded
    step = queries.scan_jobs(connection, JobQuery(since=AT + timedelta(seconds=1), limit=2), None)
    assert step == queries.Scanned([], ID[:-2] + "26")
    step = queries.scan_jobs(connection, JobQuery(since=AT, limit=2), None)
    assert [job.id[-2:] for job in step.jobs] == ["29", "28"]
    assert step.resume == ID[:-2] + "28"


def test_other_reads_search_an_index(connection: Connection) -> None:
    plans = Plans(connection)
    queries.get(connection, ID)
    queries.find_key(connection, "ada", "k", AT)
    queries.unfinished(connection)
    queries.events(connection, ID, 0, 10)
    assert [line.partition(" (")[0] for line in plans.lines] == [
        "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1",
        "SEARCH jobs USING INDEX jobs_by_key",
        "SEARCH jobs USING INDEX jobs_by_state",
        "SEARCH events USING PRIMARY KEY",
    ]


def test_refusals_are_read_from_their_end(connection: Connection) -> None:
    plans = Plans(connection)
    queries.list_refusals(connection, 10)
    assert plans.lines == ["SCAN refusals"]  # in the order of its key: no sort, and the limit ends it


def test_pruning_with_nothing_to_do_reads_one_row_and_a_range_of_ids(connection: Connection) -> None:
    plans = Plans(connection)
    assert queries.prune(connection, Bounds(before=AT, jobs=1, bytes=1), 100) == []
    assert plans.lines == ["SCAN totals", "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id<?)"]


def test_pruning_goes_by_the_oldest_and_searches_what_it_removes(connection: Connection) -> None:
    plans = Plans(connection)
    connection.exec_driver_sql("UPDATE totals SET jobs = 10, bytes = 10")
    connection.exec_driver_sql(
        "INSERT INTO jobs VALUES (?, 's', 'failed', 'ada', ?, 1, NULL, 1, 0, '', NULL)", (ID, micros(AT))
    )
    plans.lines.clear()
    assert queries.prune(connection, Bounds(before=AT, jobs=1, bytes=100), 100) == [ID]
    scans = [line for line in plans.lines if line.startswith("SCAN")]
    assert scans == ["SCAN totals", "SCAN jobs USING INDEX sqlite_autoindex_jobs_1", "SCAN totals"]
    assert not any("TEMP" in line for line in plans.lines)
