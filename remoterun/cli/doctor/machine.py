"""What the machine offers: the interpreter, the kernel's calls, open files, SQLite."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sqlite3
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from remoterun.cli.doctor.finding import Finding

_FEW_FILES = 4096  # connections, pipes of jobs and logs share them
_PR_GET_CHILD_SUBREAPER = 37
_RESET_BUG = ((3, 7, 0), (3, 51, 2))  # first and last version in which a reset of the WAL may lose a commit


def look() -> Iterator[Finding]:
    """Look at what every node needs."""
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}", platform.python_version())
    yield _uvloop()
    yield _pidfd()
    yield _subreaper()
    yield _open_files()
    yield sqlite(sqlite3.sqlite_version_info)


def _uvloop() -> Finding:
    if find_spec("uvloop") is None:
        return Finding("uvloop", "warn", "not installed: about half the calls per second; pip install uvloop")
    return Finding("uvloop", "ok", "installed")


def _pidfd() -> Finding:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return Finding("pidfd", "fail", f"not available ({error}): jobs cannot be signalled safely; needs Linux 5.3")
    return Finding("pidfd", "ok", "available")


def _subreaper() -> Finding:
    answer = ctypes.c_int()
    if ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) != 0:
        return Finding("subreaper", "warn", "not available: a job's grandchildren may escape its end; needs Linux 3.4")
    return Finding("subreaper", "ok", "available")


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FEW_FILES <= hard or (hard == resource.RLIM_INFINITY and soft < _FEW_FILES):
        return Finding("open files", "ok", f"{soft}, can be raised to {hard}")
    if soft < _FEW_FILES:
        return Finding("open files", "warn", f"at most {soft}: few connections; raise it (LimitNOFILE=, ulimit -n)")
    return Finding("open files", "ok", str(soft))


def sqlite(version: tuple[int, ...]) -> Finding:
    """Say which SQLite there is, and whether it has the bug that a node keeps clear of."""
    text = ".".join(map(str, version))
    first, last = _RESET_BUG
    if first <= version <= last:
        text += ": it may lose a commit when two connections reset the WAL; a node keeps to one, so do not open its "
        text += "database with another program while it runs"
    return Finding("sqlite", "ok", text)
