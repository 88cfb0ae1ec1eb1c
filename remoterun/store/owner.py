"""The thread that owns the database: it holds the only connection and serves one unit of work at a time.

One connection alone: SQLite 3.7.0 to 3.51.2 can lose a transaction when two reset the write-ahead log at
once (https://sqlite.org/wal.html#walresetbug). `locking_mode=EXCLUSIVE` holds others out, and does without
the shared-memory file, which on a full disk would be a SIGBUS instead of an error.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from remoterun import failpoints
from remoterun.errors import Internal, Invalid, ServiceError, StoreError, Unavailable
from remoterun.messages import Refusal
from remoterun.store.faults import describe, is_fault
from remoterun.store.migrate import check_owner, migrate
from remoterun.store.pending import Steps
from remoterun.store.records import Encoded, add_totals, write_group, write_refusals

log = logging.getLogger("remoterun.store")

_TRANSACTION_JOBS = 500  # a backlog goes in several transactions: reads and other writes come between
_COPY_PAGES = 256  # 1 MiB a step: others wait for about a millisecond
_COPY_REST = 0.1  # seconds at most after a step; as long as it took, so that half of the disk is left to others
_WAL_KEPT = 64 * 2**20  # bytes; what a burst leaves beyond it is given back to the disk

Query = Callable[[Connection], Any]
Ready = tuple[Steps, Encoded]


@dataclass(frozen=True, slots=True)
class Ask:
    """Something to read once the writes of its unit are on disk, and who waits for it."""

    query: Query
    waiter: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Unit:
    """What the event loop hands over at once: writes, then reads."""

    group: list[Ready]
    refusals: list[Refusal]
    asks: list[Ask]
    probe: bool  # write something even if there is nothing: does the disk work again?


@dataclass(slots=True)
class Outcome:
    """How a unit went."""

    committed: list[Steps] = field(default_factory=list)
    failed: list[Steps] = field(default_factory=list)  # not on disk, to be put back
    poisoned: list[tuple[Steps, Exception]] = field(default_factory=list)  # can never be written
    answers: list[tuple[asyncio.Future[Any], Any]] = field(default_factory=list)
    refused: list[tuple[asyncio.Future[Any], ServiceError]] = field(default_factory=list)
    wrote: bool = False  # a commit went through
    fault: str | None = None  # why the last commit did not
    commits: list[float] = field(default_factory=list)  # how many seconds each took


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy to be made of the database, and what is told in the owner's thread once it is, or why it is not."""

    path: Path
    settle: Callable[[ServiceError | None], None]


class _Stopped(Exception):
    """The owner is to stop while it copies."""


class Owner:
    """Serves units in a thread of its own.

    Parameters:
        path: the database's file.
        report: called in that thread after each unit, with how it went.
    """

    def __init__(self, path: Path, report: Callable[[Outcome], None]) -> None:
        self._path = path
        self._report = report
        self._units: SimpleQueue[Unit | Copy | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="remoterun-store", daemon=True)
        self._opened: Callable[[Exception | None], None]

    def start(self, opened: Callable[[Exception | None], None]) -> None:
        """Start the thread, which opens the database and then calls `opened` with None or a StoreError."""
        self._opened = opened
        self._thread.start()

    def give(self, unit: Unit) -> None:
        """Hand over a unit; units are served in order."""
        self._units.put(unit)

    def copy(self, copy: Copy) -> None:
        """Have a copy made; units are served meanwhile."""
        self._units.put(copy)

    def stop(self) -> None:
        """Serve what was given, close the database and end the thread."""
        self._units.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._connection = open_database(self._path)
        except Exception as error:
            self._opened(error)
            return
        self._driver = driver_of(self._connection)
        self._opened(None)
        with suppress(_Stopped):
            while True:
                self._take(None)
        self._connection.close()
        self._connection.engine.dispose()

    def _take(self, patience: float | None) -> None:
        """Serve what comes next; nothing where nothing comes within `patience` seconds.

        Raises:
            _Stopped: there will be nothing more.
        """
        try:
            order = self._units.get(timeout=patience)
        except Empty:
            return
        if order is None:
            raise _Stopped
        if isinstance(order, Copy):
            self._copy(order)
            return
        outcome = Outcome()
        try:
            self._serve(order, outcome)
        finally:
            self._report(outcome)

    def _copy(self, order: Copy) -> None:
        """Copy the database a few pages at a time; what this connection writes meanwhile gets into the copy.

        (https://sqlite.org/backup.html: a backup by the connection that writes is kept up to date, not begun anew.)
        """
        began = time.monotonic()

        def serve_others(status: int, remaining: int, total: int) -> None:
            nonlocal began
            failpoints.hit("store.copy")
            if status == sqlite3.SQLITE_DONE:
                return  # what is written from here on is not in the copy
            rested = time.monotonic() + min(time.monotonic() - began, _COPY_REST)
            while (left := rested - time.monotonic()) > 0 or not self._units.empty():
                self._take(max(left, 0.0))
            began = time.monotonic()

        try:
            target = sqlite3.connect(order.path, isolation_level=None)
            try:
                self._driver.backup(target, pages=_COPY_PAGES, progress=serve_others)
            finally:
                target.close()
        except _Stopped:
            order.settle(Unavailable("the node stopped before the copy was whole", retry_after=5.0))
            raise
        except (sqlite3.Error, OSError) as error:
            order.settle(unavailable(describe(error, str(order.path))))
        else:
            order.settle(None)

    def _serve(self, unit: Unit, outcome: Outcome) -> None:
        if unit.group or unit.refusals or unit.probe:
            self._write(unit, outcome)
        stale = outcome.fault is not None and any(step.waiter is None for steps in outcome.failed for step in steps)
        for ask in unit.asks:
            if stale:
                outcome.refused.append((ask.waiter, unavailable(outcome.fault)))
            else:
                self._answer(ask, outcome)

    def _write(self, unit: Unit, outcome: Outcome) -> None:
        refusals = unit.refusals
        for start in range(0, max(len(unit.group), 1), _TRANSACTION_JOBS):
            if not self._attempt(unit.group[start : start + _TRANSACTION_JOBS], refusals, outcome):
                outcome.failed += [steps for steps, _ in unit.group[start + _TRANSACTION_JOBS :]]
                return
            refusals = []

    def _attempt(self, part: Sequence[Ready], refusals: Sequence[Refusal], outcome: Outcome) -> bool:
        """Commit a part, alone each where one of them is bad; False: the disk failed."""
        began = time.perf_counter()
        try:
            self._commit([encoded for _, encoded in part], refusals)
        except Exception as error:
            if is_fault(error):
                outcome.fault = describe(error, str(self._path))
                outcome.failed += [steps for steps, _ in part]
                return False
            if len(part) == 1 and not refusals:
                outcome.poisoned.append((part[0][0], error))
                return True
            log.warning("a group of %d jobs cannot be written: %s; going on one by one", len(part), error)
            return self._singly(part, outcome)
        outcome.commits.append(time.perf_counter() - began)
        outcome.wrote = True
        outcome.committed += [steps for steps, _ in part]
        return True

    def _singly(self, part: Sequence[Ready], outcome: Outcome) -> bool:
        for position, ready in enumerate(part):
            if not self._attempt([ready], [], outcome):
                outcome.failed += [steps for steps, _ in part[position + 1 :]]
                return False
        return True

    def _commit(self, group: Sequence[Encoded], refusals: Sequence[Refusal]) -> None:
        failpoints.hit("store.begin")
        with transaction(self._driver):
            if group:
                write_group(self._driver, group)
            if refusals:
                write_refusals(self._driver, refusals)
            if not group and not refusals:
                add_totals(self._driver, 0, 0)
            failpoints.hit("store.before_commit")
        failpoints.hit("store.after_commit")

    def _answer(self, ask: Ask, outcome: Outcome) -> None:
        try:
            failpoints.hit("store.read")
            outcome.answers.append((ask.waiter, ask.query(self._connection)))
        except (UnicodeEncodeError, OverflowError) as error:
            outcome.refused.append((ask.waiter, Invalid(f"the request holds what no record can hold: {error}")))
        except Exception as error:
            outcome.refused.append((ask.waiter, self._failure(error)))

    def _failure(self, error: Exception) -> ServiceError:
        if is_fault(error):
            return unavailable(describe(error, str(self._path)))
        log.error("a query failed", exc_info=error)
        return Internal(f"the store cannot answer: {error}")


def unavailable(fault: str | None) -> Unavailable:
    """Give the error for those who ask while the disk fails."""
    return Unavailable(fault or "the store is closed", retry_after=1.0)


@contextmanager
def transaction(driver: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block writes, or take all of it back."""
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield
        driver.execute("COMMIT")
    except BaseException:
        if driver.in_transaction:  # after some errors SQLite has rolled back by itself
            driver.execute("ROLLBACK")
        raise


def open_database(path: Path) -> Connection:
    """Open a database, make it if there is none, and bring its schema up to date.

    Raises:
        StoreError: with what to do about it.
    """
    try:
        _make_file(path)
        connection = _connect(path)
        try:
            _prepare(connection, path)
            with transaction(driver_of(connection)):
                migrate(connection, str(path))
        except BaseException:
            connection.close()
            connection.engine.dispose()
            raise
    except StoreError:
        raise
    except PermissionError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror}; check the owner and mode of the file and its folder"
        ) from error
    except Exception as error:
        raise StoreError(describe(error, str(path))) from error
    return connection


def _make_file(path: Path) -> None:
    if path.is_dir():
        raise StoreError(f"{path} is a folder; the database's file belongs there: use another data folder")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise StoreError(f"there is no folder {path.parent}; make it, or use another data folder") from error
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # the new name survives a loss of power, as does what is committed into it
    finally:
        os.close(folder)


def _connect(path: Path) -> Connection:
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(path, isolation_level=None, timeout=0),
        poolclass=StaticPool,
        isolation_level="AUTOCOMMIT",  # `transaction` says where one begins and ends
    )
    return engine.connect()


def _prepare(connection: Connection, path: Path) -> None:
    connection.exec_driver_sql("PRAGMA locking_mode=EXCLUSIVE")
    check_owner(connection, str(path))  # before a database that is not ours is changed in the least
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={_WAL_KEPT}", "trusted_schema=OFF"):
        connection.exec_driver_sql(f"PRAGMA {pragma}")


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Give the connection below SQLAlchemy's, for the few statements that run often."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
