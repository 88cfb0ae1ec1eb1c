"""Descriptors that are read when something is there: one registration each, and none to take back.

A job has four of them. The loop's own `add_reader` costs three system calls for each, and as many again on closing;
here a descriptor is registered once, with a poll of our own, and leaves it by being closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable

_AT_ONCE = 256  # descriptors looked at in one turn of the loop


class Readers:
    """Call back when a descriptor has something to read, or its other end was closed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], object]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._poll)

    def add(self, fd: int, callback: Callable[[], object]) -> None:
        """Begin to watch a descriptor."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Watch a descriptor no more; it stays open."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """Note that a descriptor is about to be closed, which ends the watch."""
        self._callbacks.pop(fd, None)

    def _poll(self) -> None:
        for fd, _ in self._epoll.poll(0, _AT_ONCE):
            callback = self._callbacks.get(fd)
            if callback is not None:  # one before may have closed it
                callback()

    def close(self) -> None:
        """Watch nothing any more."""
        with contextlib.suppress(RuntimeError):  # the loop is gone
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._callbacks.clear()
        self._epoll.close()
