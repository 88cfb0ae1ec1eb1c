"""Opening a database: made as the migrations make it, upgraded, or refused with what to do."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

from remoterun.errors import StoreError
from remoterun.store.migrate import HEAD, MIGRATIONS, create, migrate
from remoterun.store.owner import open_database
from remoterun.store.schema import metadata


def memory() -> Connection:
    return create_engine("sqlite://", isolation_level="AUTOCOMMIT").connect()


def config(connection: Connection) -> Config:
    value = Config()
    value.set_main_option("script_location", str(MIGRATIONS))
    value.attributes["connection"] = connection
    return value


def shape(connection: Connection) -> dict[str, object]:
    """Give everything that the database says about its tables and indexes."""
    found: dict[str, object] = {}
    tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    for table in tables:
        found[table] = connection.exec_driver_sql(f"SELECT * FROM pragma_table_xinfo('{table}')").all()
        found[f"{table} options"] = connection.exec_driver_sql(
            f"SELECT type, wr, strict FROM pragma_table_list('{table}')"
        ).all()
        indexes = connection.exec_driver_sql(f"SELECT name, \"unique\", partial FROM pragma_index_list('{table}')")
        for name, unique, partial in sorted(indexes.all()):
            columns = connection.exec_driver_sql(f"SELECT * FROM pragma_index_xinfo('{name}')").all()
            where = connection.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE name = '{name}'").scalar()
            found[name] = (unique, partial, columns, str(where).partition(" WHERE ")[2].replace('"', "").lower())
    found["totals rows"] = connection.exec_driver_sql("SELECT * FROM totals").all()
    found["revision"] = connection.exec_driver_sql("SELECT * FROM alembic_version").all()
    return found


def close(connection: Connection) -> None:
    connection.close()
    connection.engine.dispose()


def test_a_new_database_is_what_the_migrations_make() -> None:
    made, migrated = memory(), memory()
    create(made)
    command.upgrade(config(migrated), "head")
    assert shape(made) == shape(migrated)
    assert "jobs_by_key" in shape(made)
    assert compare_metadata(MigrationContext.configure(migrated), metadata) == []
    close(made)
    close(migrated)


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_an_older_database_is_upgraded() -> None:
    connection = memory()
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    migrate(connection, "x")
    assert set(metadata.tables) < set(inspect(connection).get_table_names())
    assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == HEAD
    close(connection)


def test_alembic_is_not_imported_for_a_database_at_head(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from remoterun.store.owner import open_database\n"
        "for _ in range(2):\n"
        "    connection = open_database(Path(sys.argv[1])); connection.close(); connection.engine.dispose()\n"
        "sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "x.sqlite3"], check=True)


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    path.touch(0o644)
    connection = open_database(path)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    close(connection)


def test_the_pragmas_hold(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "x.sqlite3")
    pragmas = {"journal_mode": "wal", "synchronous": 2, "locking_mode": "exclusive", "wal_autocheckpoint": 1000}
    for name, value in pragmas.items():
        assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value
    assert not (tmp_path / "x.sqlite3-shm").exists()
    close(connection)


def _newer(path: Path) -> None:
    close(open_database(path))
    with sqlite3.connect(path) as driver:
        driver.execute("UPDATE alembic_version SET version_num = '9999'")
    driver.close()


def _other_program(path: Path) -> None:
    with sqlite3.connect(path) as driver:
        driver.execute("CREATE TABLE theirs (x)")
    driver.close()


def _no_database(path: Path) -> None:
    path.write_bytes(b"nothing of the kind " * 1000)


def _truncated(path: Path) -> None:
    close(open_database(path))
    os.truncate(path, path.stat().st_size // 2)


def _scribbled(path: Path) -> None:
    close(open_database(path))
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 2000)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_newer, "written by a newer remoterun .revision 9999.; upgrade remoterun, or use another data folder"),
        (_other_program, "is a database of another program; use another data folder"),
        (_no_database, "is damaged: file is not a database; .*restore a backup, or move the file away"),
        (_truncated, "is damaged: .*; .*restore a backup, or move the file away"),
        (_scribbled, "is damaged: .*; .*restore a backup, or move the file away"),
        (Path.mkdir, "is a folder; .*use another data folder"),
    ],
)
def test_what_cannot_be_opened_is_refused_and_left_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "x.sqlite3"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=message) as raised:
        open_database(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert before == (path.read_bytes() if path.is_file() else None)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"there is no folder {tmp_path}/none; make it"):
        open_database(tmp_path / "none" / "x.sqlite3")


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    connection = open_database(path)
    program = (
        "import sys; from pathlib import Path; from remoterun.store.owner import open_database\n"
        "from remoterun.errors import StoreError\n"
        "try: open_database(Path(sys.argv[1]))\n"
        "except StoreError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert run.stdout == f"{path} is in use by another process; stop it, or use another data folder\n"
    close(connection)


def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    program = (
        "import os, sys; from pathlib import Path; from remoterun.store.owner import open_database\n"
        "from remoterun.errors import StoreError\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: open_database(Path(sys.argv[1]))\n"
        "except StoreError as error: print(error)"
    )
    for parent in (tmp_path, *tmp_path.parents[:2]):  # the other user must get that far
        parent.chmod(0o755)
    path = folder / "x.sqlite3"
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert "cannot be written: Permission denied; check the owner and mode" in run.stdout
