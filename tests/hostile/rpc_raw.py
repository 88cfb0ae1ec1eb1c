"""A caller that writes RPyC's protocol by hand, with RPyC's own encoding: it can say what no RPyC would."""

from __future__ import annotations

import socket
import zlib
from typing import Any

from rpyc.core import brine, consts

from remoterun.testing import RunningNode
from tests.hostile.harness import dial

REQUEST, REPLY, EXCEPTION = consts.MSG_REQUEST, consts.MSG_REPLY, consts.MSG_EXCEPTION
VALUE, TUPLE = consts.LABEL_VALUE, consts.LABEL_TUPLE
OURS, THEIRS = consts.LABEL_REMOTE_REF, consts.LABEL_LOCAL_REF  # an object of this side's, of the node's


def framed(payload: bytes, *, compressed: bool = False) -> bytes:
    """Put a frame around a message."""
    return len(payload).to_bytes(4, "big") + bytes((compressed,)) + payload + b"\n"


def message(kind: int, number: int, body: Any, *, compressed: bool = False) -> bytes:
    """Write a message."""
    payload = bytes((kind,)) + brine.dump((number, body))
    return framed(zlib.compress(payload, 9) if compressed else payload, compressed=compressed)


def request(number: int, handler: Any, *boxed: Any) -> bytes:
    """Write a request, its arguments boxed already."""
    return message(REQUEST, number, (handler, (TUPLE, boxed)))


def value(plain: Any) -> tuple[int, Any]:
    """Box a plain value."""
    return VALUE, plain


class Raw:
    """One connection; `closed` once the node has closed it."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self._number = 0
        self._file = line.makefile("rb")

    def close(self) -> None:
        """Close it."""
        self._file.close()
        self.line.close()

    def send(self, data: bytes) -> None:
        """Write bytes."""
        self.line.sendall(data)

    def receive(self) -> tuple[int, int, Any]:
        """Read a message: its kind, number and body.

        Raises:
            EOFError: the node has closed the connection.
        """
        try:
            head = self._file.read(5)
            if len(head) < 5:
                raise EOFError
            payload = self._file.read(int.from_bytes(head[:4], "big") + 1)[:-1]
        except ConnectionError as error:
            raise EOFError from error
        number, body = brine.load(payload[1:])
        return payload[0], number, body

    def ask(self, handler: Any, *boxed: Any) -> tuple[int, Any]:
        """Ask, and give the kind and the body of the answer; requests of the node's that come first are passed over."""
        self._number += 1
        self.send(request(self._number, handler, *boxed))
        while True:
            kind, number, body = self.receive()
            if kind != REQUEST:
                assert number == self._number
                return kind, body

    def call(self, method: str, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        """Call a method of the root with plain values."""
        return self.ask(consts.HANDLE_CALLATTR, self.root, value(method), value(args), value(tuple(kwargs.items())))

    @property
    def root(self) -> tuple[int, Any]:
        """The root, boxed."""
        kind, (_, id_pack) = self.ask(consts.HANDLE_GETROOT)
        assert kind == REPLY
        return THEIRS, id_pack


def connected(node: RunningNode, token: str | None = None) -> Raw:
    """Open a connection, and prove a token on it."""
    raw = Raw(dial(node, "rpyc"))
    try:
        if token is not None:
            kind, body = raw.call("login", token)
            assert kind == REPLY, body
    except BaseException:
        raw.close()
        raise
    return raw
