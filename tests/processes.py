"""A look at processes from outside."""

from __future__ import annotations

from pathlib import Path


def stat_of(pid: int) -> list[str]:
    """Give the fields of /proc/<pid>/stat after the name: state, parent, ...; empty where there is no process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie.

    One may wait for the test's own process: a node in it makes it the parent of orphans.
    """
    fields = stat_of(pid)
    return bool(fields) and fields[0] not in "ZX"


def parent_of(pid: int) -> int:
    """Give a process's parent; 0 where the process is gone."""
    fields = stat_of(pid)
    return int(fields[1]) if fields else 0
