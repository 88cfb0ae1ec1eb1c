"""One connection to a node, on which one caller at a time asks: a DEALER that is not made anew when it breaks."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from itertools import count
from typing import Any, Final

import zmq

from remoterun.addresses import join
from remoterun.errors import Unauthenticated, Unavailable
from remoterun.transport import Target
from remoterun_queue.zeromq.address import Address
from remoterun_queue.zeromq.keys import KeyPair, read_pair, read_public

_HEARTBEAT: Final = 5_000  # ms between two
_GONE: Final = 15_000  # ms without a word after which the other end is gone
_LINGER: Final = 1_000  # ms for what is on its way when the connection is closed
_LARGEST: Final = 64 * 2**20  # bytes of one answer
_WATCHED: Final = (
    zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

_EVENT: Final = struct.Struct("=H")

_numbers = count(1)
_forked_along: Final[list[object]] = []  # what a process has of its parent's: it is neither used nor let go of


class Lost(Exception):
    """The connection broke; `sent` tells whether the node may have the request."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class Place:
    """Where channels lead, and what they are opened with; it is fit for use after a fork.

    Raises:
        Unavailable: a key file cannot be used.
    """

    def __init__(self, address: Address, target: Target) -> None:
        self.address = address
        self.timeout = target.timeout
        self._server_key = read_public(address.server_key) if address.server_key else None
        self._pair = read_pair(address.key) if address.key else None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._pid = 0
        self._is_closed = False

    def context(self) -> zmq.Context[zmq.Socket[bytes]]:
        """Give the context of this process: one that was forked along has no threads.

        Raises:
            Unavailable: it was closed.
        """
        if self._is_closed:
            raise self.unavailable("the connection was closed on this side")
        if self._context is not None and self._pid != os.getpid():
            _forked_along.append(self._context)
            self._context = None
        if self._context is None:
            self._context = zmq.Context()
            self._pid = os.getpid()
        return self._context

    def close(self) -> None:
        """Let go of the context, and of every channel that is still open; it is not used again."""
        self._is_closed = True
        context, self._context = self._context, None
        if context is not None and self._pid == os.getpid():
            context.destroy(_LINGER)
        elif context is not None:
            _forked_along.append(context)

    def resolve(self) -> list[str]:
        """Give what the host's name stands for, as ZeroMQ writes it.

        Raises:
            Unavailable: nothing.
        """
        try:
            infos = socket.getaddrinfo(self.address.host, self.address.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise self.unavailable(getattr(error, "strerror", None) or str(error)) from error
        return list(dict.fromkeys(f"tcp://{join(str(info[4][0]), int(info[4][1]))}" for info in infos))

    def secure(self, dealer: zmq.Socket[bytes]) -> None:
        """Have a socket speak CURVE, if the address names keys."""
        if self._server_key is not None:
            pair = self._pair or KeyPair(*zmq.curve_keypair())
            dealer.curve_serverkey = self._server_key
            dealer.curve_publickey = pair.public
            dealer.curve_secretkey = pair.secret

    def unavailable(self, reason: object) -> Unavailable:
        """Say that nothing answers there, or not as it should."""
        return Unavailable(f"{self.address}: {reason}")


class Channel:
    """One connection.

    Raises:
        Unavailable: nothing answers at the address.
        Unauthenticated: CURVE does not let this caller in.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._pid = os.getpid()
        deadline = time.monotonic() + place.timeout
        reason: Unavailable | Unauthenticated | None = None
        for where in place.resolve():
            self._socket = self._dealer()
            try:
                reason = self._connect(where, deadline)
            except BaseException:
                self._socket.close(0)
                raise
            if reason is None:
                break
            self._socket.close(0)
        if reason is not None:
            raise reason
        self._poll = select.poll()
        self._poll.register(self._socket.FD, select.POLLIN)

    def is_usable(self) -> bool:
        """Tell whether the connection is still there and this process's own, and nothing unasked has come."""
        return self._pid == os.getpid() and self._socket.get(zmq.EVENTS) == zmq.POLLOUT

    def send(self, body: bytes) -> None:
        """Send a message.

        Raises:
            Lost: the connection broke.
            Unavailable: the other end takes nothing.
        """
        try:
            self._socket.send(body, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise Lost("the connection broke", sent=False) from error

    def receive(self, timeout: float | None) -> bytes:
        """Give the next message.

        Raises:
            Lost: the connection broke.
            TimeoutError: none came within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                events: Any = self._socket.get(zmq.EVENTS)
                if events & zmq.POLLIN:
                    return self._socket.recv_multipart(zmq.NOBLOCK)[-1]
            except zmq.ZMQError as error:
                raise Lost("the connection was closed", sent=True) from error
            if not events & zmq.POLLOUT:
                raise Lost("the connection broke", sent=True)
            left = None if deadline is None else 1000 * (deadline - time.monotonic())
            if left is not None and left <= 0:
                raise TimeoutError(f"no answer within {timeout:g} s")
            self._poll.poll(left)

    def close(self) -> None:
        """Close the connection; in a process that was forked, forget it."""
        if self._pid == os.getpid():
            self._socket.close(_LINGER)
        else:
            _forked_along.append(self._socket)

    def _dealer(self) -> zmq.Socket[bytes]:
        dealer = self._place.context().socket(zmq.DEALER)
        dealer.linger = _LINGER
        dealer.immediate = True  # there is room once there is a connection
        dealer.reconnect_ivl = -1  # what was asked on a connection that broke gets no answer on another
        dealer.ipv6 = True
        dealer.connect_timeout = dealer.handshake_ivl = max(1, round(self._place.timeout * 1000))
        dealer.heartbeat_ivl = _HEARTBEAT
        dealer.heartbeat_timeout = _GONE
        dealer.maxmsgsize = _LARGEST
        self._place.secure(dealer)
        return dealer

    def _connect(self, where: str, deadline: float) -> Unavailable | Unauthenticated | None:
        """Connect, and give what is in the way of that."""
        monitored = f"inproc://remoterun-channel-{next(_numbers)}"
        self._socket.monitor(monitored, _WATCHED)
        monitor = self._place.context().socket(zmq.PAIR)
        try:
            monitor.linger = 0
            monitor.connect(monitored)
            self._socket.connect(where)
            while monitor.poll(max(0, round(1000 * (deadline - time.monotonic())))):
                (event,) = _EVENT.unpack_from(monitor.recv_multipart()[0])
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    return self._await_room(deadline)
                return self._obstacle(event)
        except zmq.ZMQError as error:
            return self._place.unavailable(error.strerror)
        finally:
            self._socket.disable_monitor()
            monitor.close()
        return self._place.unavailable(f"no connection within {self._place.timeout:g} s")

    def _await_room(self, deadline: float) -> Unavailable | None:
        if self._socket.poll(max(1, round(1000 * (deadline - time.monotonic()))), zmq.POLLOUT):
            return None
        return self._place.unavailable("the connection broke")

    def _obstacle(self, event: int) -> Unavailable | Unauthenticated:
        address = self._place.address
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return Unauthenticated(f"{address}: the node does not know this CURVE key")
        if event == zmq.EVENT_CLOSED:
            return self._place.unavailable("nothing listens there")
        if address.server_key:
            return self._place.unavailable("what answers there does not have the CURVE key of the file server_key")
        return self._place.unavailable(
            "what answers there is no ZeroMQ, or it speaks CURVE: then add ?server_key=FILE&key=FILE to the address"
        )
