"""What a process 1 owes its container: to wait for those whose own parents are gone.

Orphans of jobs are their fork server's; what is left are those of programs that somebody starts in the container
beside the node, like a check of its health. Without a wait each of them keeps its number for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from remoterun.workers import system

_LOOK_EVERY = 2.0  # seconds; what ended before the last look is nobody's: what we start ourselves, we wait for at once


def is_first() -> bool:
    """Tell whether this process is the first of its container."""
    return os.getpid() == 1


async def reap(pause: float = _LOOK_EVERY) -> None:
    """Wait for orphans, again and again, until cancelled."""
    seen: set[int] = set()
    while True:
        await asyncio.sleep(pause)
        ended = {pid for pid in system.children(os.getpid()) if system.is_zombie(pid)}
        for pid in ended & seen:
            _reap(pid)
        seen = ended - seen


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
