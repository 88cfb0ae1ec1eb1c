"""The PULL that PUSH sockets publish jobs into.

A PUSH is told nothing: neither that its job is taken, nor that it is refused. While the node has no room, nothing more
is read, and in the end the PUSH itself has no room. What has been read and is not yet on disk dies with the node.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import zmq

from remoterun.errors import ServiceError
from remoterun_queue.answering import Answering
from remoterun_queue.exchange import Exchange
from remoterun_queue.zeromq.peers import Peer, Peers, Terms
from remoterun_queue.zeromq.watch import Watch

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 64  # messages that are read and not yet on disk


class Pull:
    """Takes the jobs of one socket.

    Parameters:
        socket: a PULL, not yet bound.
        answering: starts the jobs.
        terms: what connections are held to.
    """

    def __init__(self, socket: zmq.Socket[bytes], answering: Answering, terms: Terms) -> None:
        self._socket = socket
        self._answering = answering
        self._is_stopping = False
        self.peers = Peers(socket, terms, answering.forget)
        self._watch = Watch(socket, self._receive)

    def hold(self) -> None:
        """Take no further message."""
        self._is_stopping = True
        self._watch.hold()

    def close(self) -> None:
        """Let go of the socket."""
        self._watch.close()
        self.peers.close()
        self._socket.close()

    def _receive(self) -> None:
        first = self._socket.recv(zmq.NOBLOCK, copy=False)
        body, length = first, 1
        while self._socket.get(zmq.RCVMORE):
            body = self._socket.recv(zmq.NOBLOCK, copy=False)
            length += 1
        peer = self.peers.of(first, b"")
        if peer is None:
            return
        if length > 1 and not (length == 2 and not len(first)):
            logger.warning("a message from %s dropped: it has %d frames, not one of JSON", peer.address, length)
            return
        task = self._answering.start(_Publication(self, peer, self.peers.user(peer)), body.bytes)
        task.add_done_callback(self._ended)
        if self._answering.under_way >= _AT_ONCE:
            self._watch.hold()

    def _ended(self, task: asyncio.Future[None]) -> None:
        if not self._is_stopping and self._answering.under_way < _AT_ONCE:
            self._watch.release()


class _Publication(Exchange):
    """A message that nobody waits for an answer to."""

    def __init__(self, pull: Pull, peer: Peer, user: str) -> None:
        super().__init__(None, peer=peer.address, is_kept=False, principal=user)
        self._pull = pull
        self._peer = peer

    async def answer(self, body: bytes) -> None:
        raise AssertionError("nobody reads answers here")

    def proved(self) -> None:
        self._pull.peers.proved(self._peer)

    def disproved(self) -> None:
        self._pull.peers.disproved(self._peer)

    async def _accept(self) -> None:
        pass  # ZeroMQ keeps nothing

    async def _refuse(self, error: ServiceError) -> None:
        logger.warning("a message from %s refused: %s", self.peer, error.message)
