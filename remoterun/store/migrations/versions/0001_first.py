"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        sa.Column("script", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("key", sa.Text),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("log", sa.BigInteger, nullable=False),
        sa.Column("job", sa.LargeBinary, nullable=False),
        sa.Column("extra", sa.LargeBinary),
    )
    for column in ("script", "state", "principal"):
        op.create_index(f"jobs_by_{column}", "jobs", [column, "id"])
    has_key = sa.text("key IS NOT NULL")
    op.create_index("jobs_by_key", "jobs", ["principal", "key", "id"], sqlite_where=has_key, postgresql_where=has_key)
    op.create_table(
        "events",
        sa.Column("job_id", sa.Text, primary_key=True, nullable=False),
        sa.Column("last_n", sa.BigInteger, primary_key=True, nullable=False, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refusals",
        sa.Column("id", sa.Integer, primary_key=True, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    totals = op.create_table(
        "totals",
        sa.Column("id", sa.Integer, primary_key=True, nullable=False),
        sa.Column("jobs", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(totals, [{"id": 1, "jobs": 0, "bytes": 0}])
