"""Who is connected to a socket: how many, how long without a proof, how much without a message.

libzmq tells a socket's owner nothing of connections but by its monitor, which names each by its descriptor; every
message names the one that it came by. A routing id is the client's choice and says nothing.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import zmq

from remoterun.addresses import join
from remoterun_queue.zeromq import connections
from remoterun_queue.zeromq.keys import Clients
from remoterun_queue.zeromq.watch import Watch

logger = logging.getLogger(__name__)

_TICK: Final = 0.25  # seconds between two looks at who is unproved
_EVERYONE: Final = 8  # ticks between two looks at all
_OVERHEAD: Final = 2**16  # bytes of frames and commands beside a message
_EVENT: Final = struct.Struct("=HI")
_numbers = count(1)


class Peer:
    """One connection: it is what answers and streams belong to."""

    __slots__ = (
        "address",
        "deadline",
        "fd",
        "has_spoken",
        "id",
        "is_gone",
        "is_proved",
        "key",
        "name",
        "received",
        "sent",
        "under_way",
    )

    def __init__(self, fd: int, deadline: float) -> None:
        self.fd = fd
        self.deadline = deadline  # loop time by which it has to be proved
        self.id: bytes | None = None  # under which the socket sends to it
        self.name: Any = None  # the address at the other end, as the system gives it
        self.key = b""  # by which CURVE let it in
        self.address = ""  # the same as text, for records
        self.is_proved = False
        self.is_gone = False
        self.has_spoken = False  # a whole message came since it was last looked at
        self.received = 0  # bytes, when that was last so
        self.under_way = 0  # calls
        self.sent = 0.0  # loop time of the last answer


@dataclass(frozen=True, slots=True)
class Terms:
    """What connections are held to."""

    connections: int  # at once
    largest: int  # bytes of a frame
    ahead: int  # messages of one that is proved, which libzmq holds while they are not taken
    patience: float | None  # seconds within which one has to be proved; None: it is, by its coming
    clients: Clients | None  # whose keys CURVE lets in; None: no CURVE


class Peers:
    """The connections of one socket.

    Parameters:
        socket: not yet bound.
        terms: what they are held to.
        gone: called with a peer whose connection has ended.
    """

    def __init__(self, socket: zmq.Socket[bytes], terms: Terms, gone: Callable[[Peer], None]) -> None:
        self._terms = terms
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._by_fd: dict[int, Peer] = {}
        self._unproved: dict[int, Peer] = {}  # oldest first
        self._socket = socket
        place = f"inproc://remoterun-monitor-{next(_numbers)}"
        socket.monitor(place, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._monitor = socket.context.socket(zmq.PAIR)
        self._monitor.linger = 0
        self._monitor.rcvhwm = 0  # a full monitor would stop libzmq's thread
        self._monitor.connect(place)
        self._watch = Watch(self._monitor, self._receive)
        self._ticks = 0
        self._keys = 0  # version of the keys that all were last held against
        self._timer = self._loop.call_later(_TICK, self._tick)

    def close(self) -> None:
        """Stop looking."""
        self._timer.cancel()
        self._watch.close()
        self._socket.disable_monitor()
        self._monitor.close()

    def of(self, frame: zmq.Frame, routing_id: bytes) -> Peer | None:
        """Give the peer that a message came from, by any of its frames and by where its answers go.

        None: it came by ZMTP 1 or 2, which no one speaks since 2013, and of which libzmq does not say who it was.
        """
        try:
            fd = int(frame.get(zmq.SRCFD))
        except zmq.ZMQError:
            return None
        peer = self._by_fd.get(fd)
        if peer is None or peer.id != routing_id:  # its first message: the monitor's word of it is there, too
            self.look()
            peer = self._first_heard(fd, routing_id, frame)
        peer.has_spoken = True
        return peer

    def _first_heard(self, fd: int, routing_id: bytes, frame: zmq.Frame) -> Peer:
        peer = self._by_fd.get(fd)
        if peer is None:  # it has left; what it sent is served
            peer = Peer(fd, 0)
            peer.is_gone = True
        elif peer.id is not None:  # another had the descriptor, whose last message was still to be read
            peer = self._accept(fd)
        peer.id = routing_id
        peer.address = join(*peer.name[:2]) if peer.name else str(frame.get("Peer-Address"))
        peer.key = b"" if self._terms.clients is None else str(frame.get("User-Id")).encode()
        return peer

    def look(self) -> None:
        """Take note of who has gone by now."""
        while self._monitor.get(zmq.EVENTS) & zmq.POLLIN:
            self._receive()

    def proved(self, peer: Peer) -> None:
        """Take note that a peer has proved who it is."""
        if not peer.is_proved and not peer.is_gone:
            peer.is_proved = True
            self._unproved.pop(peer.fd, None)

    def disproved(self, peer: Peer) -> None:
        """Take note that what a peer has shown is worth nothing, or no more."""
        if peer.is_proved and not peer.is_gone:
            peer.is_proved = False
            peer.deadline = self._deadline()
            self._unproved[peer.fd] = peer

    def user(self, peer: Peer) -> str:
        """Give the name of a peer's key; nothing without CURVE, or where the key was taken away."""
        return (self._terms.clients.name(peer.key) or "") if self._terms.clients is not None else ""

    def cut(self, peer: Peer, why: str) -> None:
        """End a connection."""
        self.look()
        if not peer.is_gone:
            logger.info("connection from %s cut: %s", peer.address or peer.name, why)
            connections.cut(peer.fd, peer.name)

    def _deadline(self) -> float:
        patience = self._terms.patience
        return float("inf") if patience is None else self._loop.time() + patience

    def _receive(self) -> None:
        event, fd = _EVENT.unpack(self._monitor.recv_multipart(zmq.NOBLOCK)[0])
        if event == zmq.EVENT_ACCEPTED:
            self._accept(fd)
        elif event == zmq.EVENT_DISCONNECTED:
            self._forget(fd)

    def _accept(self, fd: int) -> Peer:
        self._forget(fd)  # no two have one descriptor
        peer = self._by_fd[fd] = self._unproved[fd] = Peer(fd, self._deadline())
        peer.name = connections.peer_name(fd)
        if len(self._by_fd) > self._terms.connections:
            oldest = next(iter(self._unproved.values()))
            self._unproved.pop(oldest.fd)  # to be cut once, and not again by the next to come
            self._loop.call_soon(self.cut, oldest, "there are too many connections")
        return peer

    def _forget(self, fd: int) -> None:
        peer = self._by_fd.pop(fd, None)
        if peer is not None:
            self._unproved.pop(fd, None)
            peer.is_gone = True
            self._gone(peer)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(_TICK, self._tick)
        self.look()
        self._ticks += 1
        now = self._loop.time()
        for peer in list(self._unproved.values()):
            if now > peer.deadline:
                self.cut(peer, "it has not proved who it is in time")
            else:
                self._measure(peer)
        if self._terms.clients is not None:
            self._hold_against(self._terms.clients)
        if self._ticks % _EVERYONE == 0:
            for peer in list(self._by_fd.values()):
                self._measure(peer)

    def _hold_against(self, clients: Clients) -> None:
        """Cut off whose key was taken away."""
        clients.poll()
        if self._keys != clients.version:
            self._keys = clients.version
            for peer in list(self._by_fd.values()):
                if peer.key and clients.name(peer.key) is None:
                    self.cut(peer, "its key was taken away")

    def _measure(self, peer: Peer) -> None:
        """Cut off who sends without end: libzmq keeps the frames of a message until its last one is there."""
        received = connections.bytes_received(peer.fd)
        if peer.has_spoken:
            peer.has_spoken = False
            peer.received = received
        elif received - peer.received > self._allowed(peer):
            self.cut(peer, f"{received - peer.received} bytes that are no message")

    def _allowed(self, peer: Peer) -> int:
        """Give how many bytes of a peer may be under way to us."""
        is_trusted = peer.is_proved or self._terms.patience is None
        return (self._terms.ahead if is_trusted else 1) * self._terms.largest + _OVERHEAD
