"""The jobs that wait for a worker: first come, first served, among scripts that may run one more."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Generic, Protocol, TypeVar


class Waiter(Protocol):
    """What can wait: it knows the script that it is of, and whether it still wants to run."""

    @property
    def group(self) -> str:
        """The script's name."""

    @property
    def is_waiting(self) -> bool:
        """False once it was cancelled."""


W = TypeVar("W", bound=Waiter)


class _Group(Generic[W]):
    __slots__ = ("is_listed", "limit", "queue", "running")

    def __init__(self) -> None:
        self.queue: deque[tuple[int, W]] = deque()
        self.running = 0
        self.limit = 0
        self.is_listed = False  # whether the heap has it


class WaitingJobs(Generic[W]):
    """A queue per script, and the order among their heads.

    Each step costs the logarithm of the number of scripts that have something waiting, however long the queues.
    """

    def __init__(self) -> None:
        self._groups: dict[str, _Group[W]] = {}
        self._heads: list[tuple[int, str]] = []
        self._number = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def can_start(self, group: str, limit: int) -> bool:
        """Tell whether a job of this script may start now, ahead of none of its own that waits."""
        known = self._groups.get(group)
        if known is None:
            return True
        self._drop_cancelled(known)
        return not known.queue and (not limit or known.running < limit)

    def started(self, group: str, limit: int) -> None:
        """Count a running job of a script whose `limit` is how many may run at once; 0: any number."""
        known = self._group(group)
        known.limit = limit
        known.running += 1

    def ended(self, group: str) -> None:
        """Count a running job's end."""
        known = self._groups[group]
        known.running -= 1
        self._list(group, known)

    def push(self, waiter: W, limit: int) -> None:
        """Have a job wait behind all that wait."""
        known = self._group(waiter.group)
        known.limit = limit
        self._number += 1
        known.queue.append((self._number, waiter))
        self._count += 1
        self._list(waiter.group, known)

    def head(self) -> W | None:
        """Give the job that waited longest among those that may start, and leave it there."""
        group = self._first()
        return None if group is None else group.queue[0][1]

    def pop(self) -> W | None:
        """Take the job that waited longest among those that may start; it counts as started."""
        group = self._first()
        if group is None:
            return None
        group.running += 1
        return self._take(group)

    def hand_over(self) -> None:
        """Take the head away, which somebody else starts and counts."""
        group = self._first()
        if group is not None:
            self._take(group)

    def _first(self) -> _Group[W] | None:
        while self._heads:
            number, name = self._heads[0]
            known = self._groups[name]
            self._drop_cancelled(known)
            if known.queue and known.queue[0][0] == number and self._has_room(known):
                return known
            heapq.heappop(self._heads)
            known.is_listed = False
            self._list(name, known)  # again, where it was listed for one that was cancelled since
        return None

    def _take(self, group: _Group[W]) -> W:
        _, name = heapq.heappop(self._heads)
        group.is_listed = False
        _, waiter = group.queue.popleft()
        self._count -= 1
        self._list(name, group)
        return waiter

    def cancelled(self) -> None:
        """Count a waiting job out that no longer wants to run; it is passed over later."""
        self._count -= 1

    def _drop_cancelled(self, group: _Group[W]) -> None:
        while group.queue and not group.queue[0][1].is_waiting:
            group.queue.popleft()

    def _group(self, name: str) -> _Group[W]:
        known = self._groups.get(name)
        if known is None:
            known = self._groups[name] = _Group()
        return known

    def _has_room(self, group: _Group[W]) -> bool:
        return not group.limit or group.running < group.limit

    def _list(self, name: str, group: _Group[W]) -> None:
        if not group.is_listed and group.queue and self._has_room(group):
            group.is_listed = True
            heapq.heappush(self._heads, (group.queue[0][0], name))
