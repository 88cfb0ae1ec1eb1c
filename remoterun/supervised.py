"""What a supervisor is told of this process, in systemd's notification protocol: see sd_notify(3).

It is told that this process answers, reloads or stops, and, where it watches, again and again that the event loop
turns: one that hangs is restarted. Without a supervisor that listens, nothing happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

_SHARE: Final = 2  # a sign of life in half the time allowed, as sd_watchdog_enabled(3) advises


class Supervisor:
    """Who started this process and watches it.

    Parameters:
        address: of its datagram socket, `@` first where it is an abstract one; empty: nobody listens.
        patience: seconds after which this process is taken for hung; 0: nobody watches.
    """

    def __init__(self, address: str = "", patience: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._pause = patience / _SHARE
        self._next: asyncio.TimerHandle | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Supervisor:
        """Give the supervisor that the environment names, and take the variables out: they are not for children."""
        address = environ.pop("NOTIFY_SOCKET", "")
        patience = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return cls()
        is_watched = patience.isdigit() and watched in ("", str(os.getpid()))
        return cls(address, int(patience) / 1e6 if is_watched else 0.0)

    def ready(self, status: str) -> None:
        """Say that this process answers, or does so again, and in a line what it does."""
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins; `ready` says that it has ended."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self) -> None:
        """Say that this process is about to end."""
        self._say("STOPPING=1", "STATUS=stopping")

    def watch(self) -> None:
        """Give a sign of life now, and again for as long as the running loop turns."""
        if self._pause > 0:
            self._say("WATCHDOG=1")
            self._next = asyncio.get_running_loop().call_later(self._pause, self.watch)

    def close(self) -> None:
        """Say nothing more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *assignments: str) -> None:
        if self._socket is not None:
            # One that does not listen is no reason to stop serving; one that is slow must not hold up the loop.
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(assignments).encode(), self._address)
