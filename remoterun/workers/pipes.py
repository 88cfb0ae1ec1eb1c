"""The pipes that a worker process writes to, at the node's end: stdout, stderr, progress."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import sys
import termios
from collections.abc import Callable
from functools import partial

from remoterun.workers.readers import Readers
from remoterun.workers.run import Run, Stream

_READ = 65536  # bytes: what a pipe holds
_LARGEST_PIPE = 2**20  # bytes: what its user may make it hold (/proc/sys/fs/pipe-max-size)
_LONGEST_PROGRESS = 4096  # bytes of a line: what a pipe takes in one piece


class Pipes:
    """Read what a worker writes, only as fast as the sink takes it.

    Parameters:
        fds: stdout, stderr and the progress pipe, in this order; none of them blocks.
        readers: tells when there is something to read.
        may_read: asked before a descriptor is read once; False: not now, it will be told of again.
    """

    __slots__ = ("_is_reading", "_may_read", "_out", "_progress", "_readers", "_rest", "closed", "run")

    def __init__(self, fds: list[int], readers: Readers, may_read: Callable[[int], bool]) -> None:
        self.run: Run | None = None  # the call whose output is read
        self.closed = asyncio.Event()  # stdout and stderr
        self._out: dict[Stream, int] = {"stdout": fds[0], "stderr": fds[1]}
        self._progress = fds[2]
        self._readers = readers
        self._may_read = may_read
        self._is_reading = False
        self._rest = b""  # of a line of progress that is not whole

    def begin(self, run: Run) -> None:
        """Read for a call from now on."""
        self.run = run
        self._rest = b""
        if not self._is_reading:
            self.resume()

    def watch_progress(self) -> None:
        """Begin to read progress."""
        self._readers.add(self._progress, self._progress_ready)

    def resume(self) -> None:
        """Read stdout and stderr as they come."""
        if not self._is_reading:
            self._is_reading = True
            for stream, fd in self._out.items():
                self._readers.add(fd, partial(self._stream_ready, stream, fd))

    def _pause(self) -> None:
        if self._is_reading:
            self._is_reading = False
            for fd in self._out.values():
                self._readers.remove(fd)

    def _stream_ready(self, stream: Stream, fd: int) -> None:
        if self._may_read(fd):
            self._read_stream(stream, fd, _READ)

    def _progress_ready(self) -> None:
        if self._may_read(self._progress):
            self._read_progress()

    def _read_stream(self, stream: Stream, fd: int, most: int) -> int:
        """Read once and give how many bytes there were; 0 when nothing more comes."""
        try:
            data = os.read(fd, most)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self._close_stream(stream, fd)
        elif self.run is not None and not self.run.take_output(stream, data):
            self._pause()
        return len(data)

    def _read_progress(self) -> None:
        try:
            data = os.read(self._progress, _READ)
        except OSError:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_LONGEST_PROGRESS]
        if self.run is not None:
            for line in lines:
                self.run.take_progress(line)

    def take_unread(self) -> None:
        """Read exactly what stands in the pipes, of a worker that writes nothing meanwhile."""
        for stream, fd in list(self._out.items()):
            unread = _unread(fd)
            while unread > 0 and (size := self._read_stream(stream, fd, min(unread, _READ))):
                unread -= size
        for _ in range(0, _unread(self._progress), _READ):
            self._read_progress()

    def drain(self) -> None:
        """Read what stands in the pipes now; never more than a pipe can hold, however fast it is filled."""
        for stream, fd in list(self._out.items()):
            for _ in range(_LARGEST_PIPE // _READ):
                if not self._read_stream(stream, fd, _READ):
                    break
        self._read_progress()

    @property
    def are_open(self) -> bool:
        """Whether some process still holds stdout or stderr."""
        return bool(self._out)

    def _close_stream(self, stream: Stream, fd: int) -> None:
        self._readers.forget(fd)
        os.close(fd)
        del self._out[stream]
        if not self._out:
            self.closed.set()

    def close(self) -> None:
        """Close every descriptor."""
        for stream, out in list(self._out.items()):
            self._close_stream(stream, out)
        self._readers.forget(self._progress)
        os.close(self._progress)


def has_news(fd: int) -> bool:
    """Tell whether a descriptor holds bytes, or its other end was closed."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _unread(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
