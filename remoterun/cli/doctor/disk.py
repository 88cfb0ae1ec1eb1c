"""The data folder: whose it is, on what it lies, how fast that is, and what room is left."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from remoterun.cli.doctor.finding import Finding

_SYNCS = 20  # enough for a median
_SLOW_SYNC = 0.02  # seconds: below 50 commits/s a submit is felt
_LITTLE, _TOO_LITTLE = 2**30, 64 * 2**20  # bytes
_FEW_INODES = 10_000  # each job that leaves something takes a few
_POOR = {
    "nfs": "locks and syncs of a network may fail, and the database with them; use a local disk",
    "cifs": "locks and syncs of a network may fail, and the database with them; use a local disk",
    "smb": "locks and syncs of a network may fail, and the database with them; use a local disk",
    "9p": "it need not keep what it says it has written; use a local disk",
    "fuse": "it need not keep what it says it has written; use a local disk",
    "overlay": "it goes with its container; use a volume",
    "tmpfs": "it is memory: nothing outlives a restart of the machine; use a disk",
    "ramfs": "it is memory: nothing outlives a restart of the machine; use a disk",
}


def look(data: Path) -> Iterator[Finding]:
    """Look at a data folder, or at the place where it will be made."""
    yield check_data(data)
    where = next(path for path in (data, *data.parents) if path.exists())
    yield check_kind(kind_of(where))
    yield check_sync(where)
    yield check_room(os.statvfs(where))


def check_data(folder: Path) -> Finding:
    """Say whether a data folder is ours alone."""
    if not folder.exists():
        parent = next(parent for parent in folder.parents if parent.exists())
        if os.access(parent, os.W_OK):
            return Finding("data folder", "ok", f"{folder} will be made at the first start")
        return Finding("data folder", "fail", f"{folder} cannot be made: {parent} is not writable; use --data DIR")
    if not os.access(folder, os.W_OK):
        return Finding("data folder", "fail", f"{folder} is not writable; chown it, or use --data DIR")
    if folder.stat().st_mode & 0o077:
        return Finding(
            "data folder", "fail", f"others may enter {folder}, where tokens and logs are: chmod 700 {folder}"
        )
    return Finding("data folder", "ok", f"{folder}, this user's alone")


def kind_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Give the kind of file system that a folder lies on; empty where nobody says."""
    real, best, kind = folder.resolve(), -1, ""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].replace("\\040", " "))
        if real.is_relative_to(point) and len(point.parts) >= best:  # a later mount lies over an earlier one
            best, kind = len(point.parts), after.split()[0]
    return kind


def check_kind(kind: str) -> Finding:
    """Say whether a file system keeps a database."""
    for poor, why in _POOR.items():
        if kind == poor or (poor in ("nfs", "smb", "fuse") and kind.startswith(poor)):
            return Finding("file system", "warn", f"{kind}: {why}")
    return Finding("file system", "ok", kind or "unknown")


def check_sync(where: Path) -> Finding:
    """Measure how long a disk takes to make a write durable."""
    try:
        median = _median_sync(where)
    except OSError as error:
        return Finding("disk", "fail", f"{where} cannot be written: {error.strerror}")
    text = f"{median * 1000:.2g} ms for a durable write, about {1 / median:,.0f} commits/s"
    if median > _SLOW_SYNC:
        return Finding("disk", "warn", f"{text}: each submit waits for one; put the data folder on a faster disk")
    return Finding("disk", "ok", text)


def _median_sync(folder: Path, clock: Callable[[], float] = time.perf_counter) -> float:
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            start = clock()
            file.write(b"\0" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            taken.append(clock() - start)
    return statistics.median(taken)


def check_room(room: os.statvfs_result) -> Finding:
    """Say whether there is room for records and files."""
    free, inodes = room.f_bavail * room.f_frsize, room.f_favail
    text = f"{free / 2**30:,.1f} GiB free"
    if room.f_files:  # some file systems have no fixed number
        text += f", {inodes:,} inodes"
    if free < _TOO_LITTLE:
        return Finding("room", "fail", f"{text}: a node that cannot write takes no calls; make room")
    if free < _LITTLE or (room.f_files and inodes < _FEW_INODES):
        return Finding("room", "warn", f"{text}: make room, or keep less ([retention])")
    return Finding("room", "ok", text)
