"""Bring a database's schema up to date.

alembic takes 250 ms and 12 MB to import, so it is left out where it has nothing to do: a database
at the head revision, and a new one, which is made from the metadata (a test holds that equal to
the migrations).
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect

from remoterun.errors import StoreError
from remoterun.store.schema import metadata, totals

HEAD = "0001"
MIGRATIONS = Path(__file__).with_name("migrations")


def check_owner(connection: Connection, where: str) -> None:
    """Raise StoreError if the database, named `where`, belongs to another program."""
    present = inspect(connection).get_table_names()
    if present and "alembic_version" not in present:
        raise StoreError(f"{where} is a database of another program; use another data folder")


def migrate(connection: Connection, where: str) -> None:
    """Make or upgrade the tables; the caller's transaction holds all of it.

    Parameters:
        where: the database's name in error texts.

    Raises:
        StoreError: a newer remoterun wrote the database.
    """
    if not inspect(connection).get_table_names():
        create(connection)
        return
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if revision != HEAD:
        _upgrade(connection, revision, where)


def create(connection: Connection) -> None:
    """Make the tables of an empty database and note the revision as alembic does."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(totals.insert().values(id=1, jobs=0, bytes=0))
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version ("
        "version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{HEAD}')")


def _upgrade(connection: Connection, revision: str | None, where: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise StoreError(
            f"{where} was written by a newer remoterun (revision {revision}); "
            "upgrade remoterun, or use another data folder"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
