"""Who is let in by CURVE: the authenticator that libzmq asks about each client's key (ZeroMQ RFC 27)."""

from __future__ import annotations

from typing import Final

import zmq
from zmq.utils import z85

from remoterun_queue.zeromq.keys import Clients
from remoterun_queue.zeromq.watch import Watch

DOMAIN: Final = b"remoterun"

_ENDPOINT: Final = "inproc://zeromq.zap.01"
_FRAMES: Final = 7  # after the delimiter: version, request, domain, address, identity, mechanism, key


class Authenticator:
    """Answers for one context; it has to be there before any socket of that is bound.

    Parameters:
        context: whose sockets ask.
        clients: the keys that are let in.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], clients: Clients) -> None:
        self._clients = clients
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(_ENDPOINT)
        self._watch = Watch(self._socket, self._receive)

    def close(self) -> None:
        """Answer no more: nobody new is let in."""
        self._watch.close()
        self._socket.close()

    def _receive(self) -> None:
        frames = self._socket.recv_multipart(zmq.NOBLOCK)
        delimiter = frames.index(b"")
        asked = frames[delimiter + 1 :]
        key = self._key(asked)
        answer = [b"200", b"OK", key, b""] if key else [b"400", b"this key is not known here", b"", b""]
        self._socket.send_multipart([*frames[: delimiter + 1], b"1.0", asked[1], *answer], zmq.NOBLOCK)
        self._watch.look_again()

    def _key(self, asked: list[bytes]) -> bytes | None:
        """Give the key that is asked about, as its messages will carry it, or None to let nobody in."""
        if len(asked) != _FRAMES or asked[0] != b"1.0" or asked[2] != DOMAIN or asked[5] != b"CURVE":
            return None
        key = z85.encode(asked[6])
        self._clients.poll()
        return None if self._clients.name(key) is None else key


def demand(socket: zmq.Socket[bytes], secret: bytes) -> None:
    """Have a socket speak CURVE alone, and let nobody in whom no authenticator answers for.

    Parameters:
        secret: the node's secret key, in Z85.
    """
    socket.zap_domain = DOMAIN
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else a missing authenticator lets everyone in
    socket.curve_server = True
    socket.curve_secretkey = secret
