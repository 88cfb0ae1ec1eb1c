"""The tables, as SQLAlchemy metadata. `migrations/` makes the same ones; a test compares them.

Ids are UUIDv7 texts, so the order of ids is the order of creation. Times are whole microseconds
since 1970 in UTC. Values are kept as the JSON of `messages.encode`, in bytes: no transcoding on the
way in, and a NUL or an unpaired surrogate is an escape like any other. Columns beside the JSON
exist only where a query selects by them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    Column("script", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("ended", BigInteger),  # not NULL exactly where the state is final
    Column("key", Text),
    Column("size", BigInteger, nullable=False),  # bytes of the JSON, the log, the artifacts and the uploaded files
    Column("log", BigInteger, nullable=False),  # bytes of the log alone
    Column("job", LargeBinary, nullable=False),
    Column("extra", LargeBinary),
)

# One index for each way of listing, all of them in the order of a page. Measured: the three together
# cost 1.8 us of a row's 12. (state, id) also finds the few unfinished jobs.
Index("jobs_by_script", jobs.c.script, jobs.c.id)
Index("jobs_by_state", jobs.c.state, jobs.c.id)
Index("jobs_by_principal", jobs.c.principal, jobs.c.id)
Index(
    "jobs_by_key",
    jobs.c.principal,
    jobs.c.key,
    jobs.c.id,
    sqlite_where=jobs.c.key.is_not(None),
    postgresql_where=jobs.c.key.is_not(None),
)

events = Table(
    "events",
    metadata,
    Column("job_id", Text, primary_key=True, nullable=False),
    Column("last_n", BigInteger, primary_key=True, nullable=False, autoincrement=False),  # of the chunk
    Column("body", LargeBinary, nullable=False),  # a JSON array of consecutive events
    sqlite_with_rowid=False,  # one tree instead of two
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

# One row: what pruning would otherwise have to count.
totals = Table(
    "totals",
    metadata,
    Column("id", Integer, primary_key=True, nullable=False),
    Column("jobs", BigInteger, nullable=False),  # ended ones
    Column("bytes", BigInteger, nullable=False),  # of the ended ones
)
