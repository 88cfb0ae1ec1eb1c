"""What Linux offers and Python's standard library lacks: prctl, and the tree of a process.

Standard library only: it runs inside the fork server and in the script's process.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def become_undumpable() -> None:
    """Keep processes of the same user from reading this one's memory and environment in /proc."""
    _prctl(_PR_SET_DUMPABLE, 0)


def children(pid: int) -> list[int]:
    """Give the processes whose parent is any thread of this one, zombies included."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
        except OSError:
            continue
    return found


def descendants(pid: int) -> list[int]:
    """Give the whole tree below a process, without itself."""
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children(parent)]
        found.extend(level)
    return found


def session(pid: int) -> int:
    """Give the session of a process, zombie or not; 0 where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[3])
    except OSError:
        return 0


def is_zombie(pid: int) -> bool:
    """Tell whether a process has ended (and only its parent has not looked yet)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def kill(pid: int, number: int) -> None:
    """Signal a process that may be gone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants.

    The root is stopped first, and dies last: as long as it lives (a subreaper) no orphan leaves its tree.
    A fork bomb may be ahead by a few processes after the last sweep; they fall to the root's own parent.
    """
    kill(pid, signal.SIGSTOP)
    for _ in range(100):
        living = [child for child in descendants(pid) if not is_zombie(child)]
        if not living:
            break
        for child in living:
            kill(child, signal.SIGKILL)
    kill(pid, signal.SIGKILL)
