"""A TCP proxy of ours between a node and its broker: cut it, stall it, and the network has failed."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

_AT_ONCE = 65536


class Proxy:
    """Passes bytes on between its own port and another, unless it is told to fail.

    Parameters:
        target: the port of the loopback interface to pass on to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._is_stalled = threading.Event()
        self._refuses = False
        self._wake, wake = socket.socketpair()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(wake, selectors.EVENT_READ)
        self._woken = wake
        self._is_closed = False
        self._thread = threading.Thread(target=self._pass_on, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        with self._lock:
            for side in list(self._peers):
                self._drop(side)

    def refuse(self) -> None:
        """Reset every connection, and each new one at once, until `heal`."""
        self._refuses = True
        self.cut()

    def stall(self) -> None:
        """Pass nothing on, and say nothing about it, until `heal`: a partition."""
        self._is_stalled.set()

    def heal(self) -> None:
        """Pass everything on again; what was held meanwhile, first."""
        self._refuses = False
        self._is_stalled.clear()
        self._wake.send(b".")

    def close(self) -> None:
        """Close everything."""
        self._is_closed = True
        self._wake.send(b".")
        self._thread.join()
        self.cut()
        for each in (self._listener, self._wake, self._woken):
            each.close()
        self._selector.close()

    def _pass_on(self) -> None:
        while not self._is_closed:
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._woken:
                    self._woken.recv(_AT_ONCE)
                elif self._is_stalled.is_set():
                    self._is_stalled.wait(0.01)  # what came stays where it is: in the kernel's buffers
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._pass_from(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        caller, _ = self._listener.accept()
        try:
            if self._refuses:
                raise ConnectionRefusedError
            target = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            _reset(caller)
            return
        with self._lock:
            for side, other in ((caller, target), (target, caller)):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._peers[side] = other
                self._selector.register(side, selectors.EVENT_READ)

    def _pass_from(self, side: socket.socket) -> None:
        with self._lock:
            other = self._peers.get(side)
            if other is None:  # cut meanwhile
                return
            try:
                data = side.recv(_AT_ONCE)
                if data:
                    other.sendall(data)
                    return
            except OSError:
                pass
            self._drop(side)

    def _drop(self, side: socket.socket) -> None:
        other = self._peers.pop(side, None)
        if other is None:
            return
        self._peers.pop(other, None)
        for each in (side, other):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(each)
            _reset(each)


def _reset(side: socket.socket) -> None:
    with contextlib.suppress(OSError):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    side.close()
