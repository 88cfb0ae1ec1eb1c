"""What a data folder keeps: who holds it, the database's revision, tokens, environments."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from remoterun.access import Tokens
from remoterun.cli.doctor.finding import Finding
from remoterun.errors import RemoterunError

_DATABASE = "remoterun.sqlite3"


def look(data: Path, environments: Path, holder: int | None) -> Iterator[Finding]:
    """Look at what is kept, without changing any of it.

    Parameters:
        environments: the folder of environments.
        holder: the process of the node that runs there.
    """
    yield check_database(data / _DATABASE, holder)
    yield check_tokens(data)
    yield _check_environments(environments)


def holder_of(data: Path, locks: Path = Path("/proc/locks")) -> int | None:
    """Give the process of the node that holds a data folder, as the kernel knows its lock; taking it would disturb."""
    try:
        status = (data / "lock").stat()
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        held = any(place in line.split() and "FLOCK" in line for line in locks.read_text().splitlines())
        return int((data / "lock").read_text()) if held else None
    except (OSError, ValueError):
        return None


def check_database(file: Path, holder: int | None) -> Finding:
    """Say whether this version can go on with a database."""
    if not file.exists():
        return Finding("database", "ok", "it will be made at the first start")
    if holder is not None:
        return Finding("database", "ok", f"the node (process {holder}) holds it, which has it at its own revision")
    from remoterun.store.migrate import HEAD

    try:
        revision = _revision(file)
    except (OSError, sqlite3.Error) as error:
        return Finding("database", "fail", f"{file} cannot be read: {error}; restore a backup, or move it away")
    if revision == HEAD:
        return Finding("database", "ok", f"revision {revision}, which is this version's")
    if revision is None:
        return Finding("database", "ok", "it holds nothing yet")
    if revision > HEAD:
        return Finding(
            "database", "fail", f"revision {revision} is a newer remoterun's, this one knows {HEAD}; upgrade remoterun"
        )
    return Finding("database", "ok", f"revision {revision}; the next start brings it to {HEAD}: back it up before")


def _revision(file: Path) -> str | None:
    """Read it as it lies there: `immutable` makes no file beside it and takes no lock."""
    connection = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro&immutable=1", uri=True)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" not in tables:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    finally:
        connection.close()
    return None if row is None else str(row[0])


def check_tokens(data: Path, now: datetime | None = None) -> Finding:
    """Say how many tokens there are, and which have expired."""
    if not data.exists():
        return Finding("tokens", "ok", "the first start makes one")
    try:
        tokens = Tokens(data).list()
    except (RemoterunError, OSError) as error:
        return Finding("tokens", "fail", str(error), "they cannot be read")
    moment = now or datetime.now(UTC)
    expired = [token.name for token in tokens if token.expires is not None and token.expires <= moment]
    count = f"{len(tokens)} of them"
    if expired:
        text = f"{count}, {len(expired)} expired"
        return Finding("tokens", "warn", f"{text}: remoterun token revoke {' '.join(expired)}", text)
    never = sum(token.expires is None for token in tokens)
    return Finding("tokens", "ok", f"{count}, {never} without an end" if tokens else "none; the first start makes one")


def _check_environments(folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding("environments", "ok", "none built yet")
    if not os.access(folder, os.W_OK):
        return Finding("environments", "fail", f"{folder} is not writable; chown it, or set [environments] folder")
    from remoterun.environments import EnvironmentFolder

    held = EnvironmentFolder(folder)
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    whole = sum(held.is_built(name) for name in names)
    if whole < len(names):
        broken = len(names) - whole
        return Finding("environments", "warn", f"{whole} built, {broken} not whole: they are built anew when called")
    return Finding("environments", "ok", f"{whole} built")
