"""What a driver's error means, in one line that tells the operator what to do."""

from __future__ import annotations

import errno
import sqlite3

from sqlalchemy.exc import DBAPIError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DATA = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)


def is_fault(error: Exception) -> bool:
    """Tell whether the disk or the file failed; otherwise what was written is to blame."""
    original = _original(error)
    return isinstance(original, (OSError, sqlite3.Error)) and not isinstance(original, _DATA)


def describe(error: Exception, where: str) -> str:
    """Say what is wrong and what to do about it.

    Parameters:
        error: what the driver, SQLAlchemy or the operating system raised.
        where: the path of the database.
    """
    original = _original(error)
    return _TEXTS.get(_code(original), "{where} cannot be used: {error}").format(where=where, error=original)


def _original(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _code(error: BaseException) -> int:
    if isinstance(error, OSError):
        return sqlite3.SQLITE_FULL if error.errno in _FULL else sqlite3.SQLITE_IOERR
    code: int = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF  # the rest tells the system call


_TEXTS = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space where {where} is; the node then goes on by itself",
    sqlite3.SQLITE_IOERR: "the disk fails: {error}, at {where}; see the system's log",
    sqlite3.SQLITE_READONLY: "{where} cannot be written: {error}; check the owner and mode of the file and its folder",
    sqlite3.SQLITE_PERM: "{where} cannot be written: {error}; check the owner and mode of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "{where} cannot be opened: {error}; check the owner and mode of the file and its folder",
    sqlite3.SQLITE_CORRUPT: "{where} is damaged: {error}; stop the node and restore a backup, "
    "or move the file away to start with an empty one",
    sqlite3.SQLITE_NOTADB: "{where} is damaged: {error}; stop the node and restore a backup, "
    "or move the file away to start with an empty one",
    sqlite3.SQLITE_BUSY: "{where} is in use by another process; stop it, or use another data folder",
    sqlite3.SQLITE_LOCKED: "{where} is in use by another process; stop it, or use another data folder",
    sqlite3.SQLITE_NOMEM: "there is no memory left for {where}: {error}",
}
