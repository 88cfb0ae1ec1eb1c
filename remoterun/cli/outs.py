"""Where the streams of a job go: bytes into a pipe or file as they were, a terminal gets what is harmless."""

from __future__ import annotations

import os
import sys
from typing import Protocol


class Out(Protocol):
    """Where a stream of a job goes."""

    def write(self, data: bytes) -> None:
        """Take bytes, in order."""

    def close(self) -> None:
        """Write what is held back."""


class RawOut:
    """Pass bytes unchanged to a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        write_all(self._descriptor, data)

    def close(self) -> None:
        pass  # nothing is held back


def out_for(descriptor: int) -> Out:
    """Give the right way to write to a descriptor: neutralised if it is a terminal."""
    if not is_terminal(descriptor):
        return RawOut(descriptor)
    from remoterun.cli.terminal import TerminalOut

    return TerminalOut(descriptor, colours=not os.environ.get("NO_COLOR"))


def is_terminal(descriptor: int) -> bool:
    """Whether a descriptor is open and a terminal."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, past Python's buffers, which are flushed first so that the order holds."""
    stream = {1: sys.stdout, 2: sys.stderr}.get(descriptor)
    if stream is not None:
        stream.flush()
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
