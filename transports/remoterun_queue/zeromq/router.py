"""The ROUTER that REQ and DEALER sockets call: one frame of JSON in, frames of JSON out.

What stands before the JSON is the way back: a REQ puts an empty frame there, a DEALER may, and what relays a message
puts more. Answers take the same way.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec
import zmq

from remoterun.errors import Busy, Invalid, ServiceError
from remoterun_queue import envelope
from remoterun_queue.answering import Answering
from remoterun_queue.exchange import Exchange, Gone
from remoterun_queue.zeromq.peers import Peer, Peers, Terms
from remoterun_queue.zeromq.watch import Watch

logger = logging.getLogger(__name__)

_LONGEST_WAY: Final = 16  # frames; what has more came through more relays than there are
_RETRY: Final = 0.5  # seconds after which a full connection is tried again though nothing was heard of it


_UNREAD = 0.5  # seconds that a caller has for reading an answer before its connection is ended


class Router:
    """Serves the callers of one socket.

    Parameters:
        socket: a ROUTER, not yet bound.
        answering: serves their messages.
        terms: what connections are held to.
        pipeline: calls under way on one connection.
        stall: seconds for which a reader may take none of its answers.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], answering: Answering, terms: Terms, pipeline: int, stall: float
    ) -> None:
        self._socket = socket
        self._answering = answering
        self._pipeline = pipeline
        self._stall = stall
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()  # for room on any connection
        self._sent = -_UNREAD  # when the last answer was sent
        self.peers = Peers(socket, terms, answering.forget)
        self._watch = Watch(socket, self._receive, self._tell_waiting)

    def hold(self) -> None:
        """Take no further message."""
        self._watch.hold()

    async def let_answers_be_read(self) -> None:
        """Wait for callers to take the last answers.

        With IMMEDIATE, libzmq drops what a client has received and not yet read when its connection ends.
        """
        await asyncio.sleep(max(0.0, self._sent + _UNREAD - self._loop.time()))

    def close(self) -> None:
        """Let go of the socket."""
        self._watch.close()
        self.peers.close()
        self._socket.close()

    async def send(self, peer: Peer, way: list[bytes], body: bytes) -> None:
        """Send a message; wait while the connection is full.

        Raises:
            Gone: the connection has ended, or its reader takes nothing.
        """
        if self._send(peer, way, body):
            self._sent = peer.sent = self._loop.time()
            return
        since = self._loop.time()
        while not self._send(peer, way, body):
            if self._loop.time() - max(since, peer.sent) > self._stall:
                self.peers.cut(peer, f"it took nothing for {self._stall:g} s")
                raise Gone("the reader takes nothing")
            await self._room()
        self._sent = peer.sent = self._loop.time()

    def _send(self, peer: Peer, way: list[bytes], body: bytes) -> bool:
        """Send, and tell whether there was room for it."""
        self.peers.look()  # another may have come under a name that was free again
        if peer.is_gone:
            raise Gone("the connection has ended")
        try:
            for frame in way:
                self._socket.send(frame, zmq.SNDMORE | zmq.NOBLOCK)
            self._socket.send(body, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise Gone("the connection has ended") from error
            raise
        self._watch.look_again()
        return True

    async def _room(self) -> None:
        waiting = self._loop.create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait([waiting], timeout=_RETRY)
        finally:
            self._waiting.discard(waiting)

    def _tell_waiting(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def _receive(self) -> None:
        first = self._socket.recv(zmq.NOBLOCK, copy=False)
        way = [first.bytes]
        length = 1
        body = b""
        while self._socket.get(zmq.RCVMORE):
            body = self._socket.recv(zmq.NOBLOCK)
            length += 1
            if length <= _LONGEST_WAY:
                way.append(body)
        peer = self.peers.of(first, way[0])
        if peer is None:
            return
        if length > _LONGEST_WAY:
            self._refuse(peer, way[:1], None, Invalid(f"the message has {length} frames"))
            return
        del way[-1]
        if length == 1 or (len(way) > 1 and way[-1]):
            text = "send one frame of JSON, with an empty frame before it or none"
            self._refuse(peer, way[:1], None, Invalid(text))
        elif peer.under_way >= self._pipeline:
            error = Busy(f"{self._pipeline} calls are under way on this connection", retry_after=1)
            self._refuse(peer, way, _id_of(body), error)
        else:
            self._serve(peer, way, body)

    def _serve(self, peer: Peer, way: list[bytes], body: bytes) -> None:
        peer.under_way += 1
        call = _Call(self, peer, way, self.peers.user(peer))
        self._answering.start(call, body).add_done_callback(partial(_ended, peer))

    def _refuse(self, peer: Peer, way: list[bytes], request_id: envelope.RequestId, error: ServiceError) -> None:
        """Refuse a message where that has room: nothing is kept for who sends more than it reads."""
        with suppress(Gone):
            self._send(peer, way, envelope.refusal(request_id, error))


class _Call(Exchange):
    """A message of a caller's, and the way back to it."""

    def __init__(self, router: Router, peer: Peer, way: list[bytes], user: str) -> None:
        super().__init__(peer, peer=peer.address, is_kept=False, principal=user)
        self._router = router
        self._peer = peer
        self._way = way

    async def answer(self, body: bytes) -> None:
        await self._router.send(self._peer, self._way, body)

    def proved(self) -> None:
        self._router.peers.proved(self._peer)

    def disproved(self) -> None:
        self._router.peers.disproved(self._peer)

    async def _accept(self) -> None:
        pass  # ZeroMQ keeps nothing

    async def _refuse(self, error: ServiceError) -> None:
        pass  # the answer says it


class _Id(msgspec.Struct):
    id: envelope.RequestId = None


def _id_of(body: bytes) -> envelope.RequestId:
    try:
        return msgspec.json.decode(body, type=_Id).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _ended(peer: Peer, task: asyncio.Future[Any]) -> None:
    peer.under_way -= 1
