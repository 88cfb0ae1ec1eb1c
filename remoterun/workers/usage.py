"""What a job's whole process tree uses, read from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass

from remoterun.workers import system


@dataclass(frozen=True, slots=True)
class Usage:
    """Threads of all processes of a tree, and its memory, in bytes.

    Memory is what is each process's own, and the largest part of shared memory that one of them uses: they may
    share the same one.
    """

    tasks: int
    memory: int


def of_tree(root: int) -> Usage:
    """Add up a process and its descendants; processes that end meanwhile count as nothing."""
    tasks = memory = shared = 0
    for pid in (root, *system.descendants(root)):
        try:
            with open(f"/proc/{pid}/status", "rb") as file:
                status = file.read()
            memory += _bytes_of(status, b"RssAnon:")
            shared = max(shared, _bytes_of(status, b"RssShmem:"))
            tasks += len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 - read five times a second
        except OSError:
            continue
    return Usage(tasks, memory + shared)


def _bytes_of(status: bytes, name: bytes) -> int:
    """Give what a line of /proc/<pid>/status tells of memory; a zombie's has none."""
    start = status.find(name)
    return 0 if start < 0 else int(status[start + len(name) :].split(None, 1)[0]) * 1024
