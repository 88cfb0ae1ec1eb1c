"""Back up a SQLite database while it is in use, check the copy, and keep the newest few.

Args:
    database: the database file.
    folder: where the backups go, as NAME-20261125T183000.123456Z.sqlite3.
    keep: how many backups of this database stay, 1 to 1000.
    patience: seconds to wait for a program that has the database locked, 0 to 3600.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "1h"
# concurrency = 1
# description = "Back up a SQLite database while it is in use"
# ///

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from remoterun import script

PAGES = 1000  # copied before others may write again


def main(database: Path, folder: Path, keep: int = 7, patience: float = 30.0) -> dict[str, object]:
    if not 1 <= keep <= 1000:
        raise ValueError(f"keep is 1 to 1000 backups, not {keep}")
    if not 0 <= patience <= 3600:
        raise ValueError(f"patience is 0 to 3600 seconds, not {patience}")
    if not database.is_file():
        raise ValueError(f"there is no database {database}")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{database.stem}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z.sqlite3"
    draft = target.with_suffix(".part")
    try:
        copy(database, draft, patience)
        draft.replace(target)
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{database} cannot be backed up: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    removed = prune(folder, database.stem, keep)
    return {"backup": str(target), "bytes": target.stat().st_size, "removed": [str(old) for old in removed]}


def copy(database: Path, draft: Path, patience: float) -> None:
    source = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=0)
    with closing(source), closing(sqlite3.connect(draft)) as target:
        source.backup(target, pages=PAGES, progress=watch(patience), sleep=0.05)
        script.progress(1, 1, "checking")
        problems = [text for (text,) in target.execute("pragma integrity_check(5)")]
    if problems != ["ok"]:
        raise sqlite3.DatabaseError(f"the copy is damaged: {'; '.join(problems)}")


def watch(patience: float) -> Callable[[int, int, int], None]:
    """Report each step, and give up on a lock: `backup` itself would wait for ever."""
    free = time.monotonic()

    def step(status: int, remaining: int, total: int) -> None:
        nonlocal free
        if status not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            free = time.monotonic()
            script.progress(total - remaining, total, "copying pages")
        elif time.monotonic() - free > patience:
            raise sqlite3.OperationalError(f"another program has had it locked for {patience:g} seconds")

    return step


def prune(folder: Path, stem: str, keep: int) -> list[Path]:
    name = re.compile(re.escape(stem) + r"-\d{8}T\d{6}\.\d{6}Z\.sqlite3")
    backups = sorted(path for path in folder.iterdir() if name.fullmatch(path.name) and path.is_file())
    old = backups[:-keep]
    for path in old:
        path.unlink()
    return old
