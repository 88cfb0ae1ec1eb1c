"""The calls that a warm worker was given and has not begun: a queue that both sides can take from.

It is a pair of sockets that keep messages apart, and the node holds both ends. The worker takes one message right
before it begins that call. The kernel gives each message to one taker only, so what the node takes back never
begins, and what it cannot take back has begun: neither is a guess.
"""

from __future__ import annotations

import socket

from remoterun.workers import frames


class CallQueue:
    """Calls in the order in which their worker begins them.

    `theirs` is the end that the worker reads from; it has to be told its number.
    """

    __slots__ = ("_ours", "theirs")

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)

    def put(self, message: bytes) -> bool:
        """Add a call; False where it is too large, or there is no room now."""
        if len(message) > frames.LARGEST_QUEUED:
            return False
        try:
            self._ours.send(message)
        except OSError:
            return False
        return True

    def take_back(self) -> list[bytes]:
        """Take out every call that the worker has not begun."""
        taken = []
        while True:
            try:
                taken.append(self.theirs.recv(frames.LARGEST_QUEUED, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return taken

    def close(self) -> None:
        """Close both ends: the worker, should it wait, ends."""
        self._ours.close()
        self.theirs.close()
