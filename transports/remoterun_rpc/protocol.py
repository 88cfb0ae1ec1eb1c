"""RPyC's protocol, as far as plain values need it; pure. Both ends are described here, once.

A frame is a length, a flag and a line feed around a message; the message is a kind (1 request, 2 reply, 3 exception)
and, in brine, a number that answers repeat, and a body:

- a request's body is a handler and its arguments, boxed;
- a reply's is a boxed value;
- an exception's is its class's name, arguments, attributes and traceback, see `failures`.

To box is to say of each value whether it is plain (1), a tuple of boxes (2), an object of the receiver's (3) or one
of the sender's (4). An object is an `id_pack`: the name of its class, a number for the class and one for itself.
RPyC makes a proxy of an object of the other side's, and touching that runs code over there. Here it stays a
`Reference`: three values, and nothing that could be touched.

The numbers are RPyC's own (`rpyc.core.consts`), version 6.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from remoterun_rpc import brine
from remoterun_rpc.brine import BrineError, Plain

HEADER: Final = struct.Struct("!LB")  # bytes of the message, whether they are compressed
END: Final = b"\n"  # of a frame
AROUND: Final = HEADER.size + len(END)
BEFORE_AUTHENTICATION: Final = 8 * 1024  # bytes held of a caller that has proved nothing
_HEAD: Final = brine.dump((0, 0))[:1]  # of a pair

REQUEST, REPLY, EXCEPTION = 1, 2, 3
_VALUE, _TUPLE, _YOURS, _MINE = 1, 2, 3, 4


class Handler(IntEnum):
    """What a request asks of an object."""

    PING = 1
    CLOSE = 2
    GETROOT = 3
    GETATTR = 4
    DELATTR = 5
    SETATTR = 6
    CALL = 7
    CALLATTR = 8
    REPR = 9
    STR = 10
    CMP = 11
    HASH = 12
    DIR = 13
    PICKLE = 14
    DEL = 15
    INSPECT = 16
    BUFFITER = 17
    OLDSLICING = 18
    CTXEXIT = 19
    INSTANCECHECK = 20


class ProtocolError(Exception):
    """The bytes are no RPyC, and nothing that follows can be trusted to be."""


IdPack = tuple[str, int, int]


class Reference(Struct, frozen=True):
    """An object of the other side's, or (`is_ours`) one of this side's. It has no behaviour."""

    id_pack: IdPack
    is_ours: bool

    def __str__(self) -> str:
        return f"a {self.id_pack[0][:100]}"


Unboxed = Any  # a plain value, a Reference, or a tuple that holds References


class Message(Struct, frozen=True):
    """A message: its kind, its number, and its body, undecoded: see `body` and `request`."""

    kind: int
    number: int
    reader: brine.Reader

    def body(self) -> Plain:
        """Decode the body.

        Raises:
            BrineError: it holds what is not taken.
        """
        return self.reader.value()

    def request(self) -> tuple[Plain, tuple[Unboxed, ...]]:
        """Decode the body of a request: the handler and its arguments.

        Raises:
            BrineError: it is none, or holds what is not taken.
        """
        match self.body():
            case (handler, boxed):
                arguments = unbox(boxed)
                if isinstance(arguments, tuple):
                    return handler, arguments
        raise BrineError("a request is a handler and its arguments")


def parse(payload: bytes) -> Message:
    """Read what every message begins with.

    Raises:
        ProtocolError: it is no message.
    """
    try:
        reader = brine.Reader(payload, 1)
        kind, items, number = payload[0], reader.items(), reader.value()
    except (IndexError, BrineError) as error:
        raise ProtocolError(f"no message: {error}") from error
    if kind not in (REQUEST, REPLY, EXCEPTION) or items != 2 or type(number) is not int or not 0 <= number < 2**63:
        raise ProtocolError("no message: its kind or its number is none")
    return Message(kind, number, reader)


def request(number: int, handler: Handler, *arguments: Unboxed) -> bytes:
    """Encode a request."""
    return _frame(REQUEST, number, (int(handler), box(arguments)))


def call(number: int, target: Reference, method: str, args: tuple[Unboxed, ...]) -> bytes:
    """Encode the request that calls a method of an object, `CALLATTR`."""
    payload = b"%b%b%b%b" % (_HEAD, brine.dump(number), _of(target, method), brine.dump(box(args)))
    return b"%b%c%b\n" % (HEADER.pack(len(payload) + 1, 0), REQUEST, payload)


@lru_cache(maxsize=64)
def _of(target: Reference, method: str) -> bytes:
    """Encode what the body of such a request begins with: all but the arguments of the call."""
    whole = brine.dump((int(Handler.CALLATTR), (_TUPLE, (box(target), box(method), None))))
    return whole.removesuffix(brine.dump(None))


def reply(number: int, value: Unboxed) -> bytes:
    """Encode a reply."""
    return _frame(REPLY, number, box(value))


def exception(number: int, body: Plain) -> bytes:
    """Encode an exception."""
    return _frame(EXCEPTION, number, body)


def _frame(kind: int, number: int, body: Plain) -> bytes:
    payload = brine.dump((number, body))
    return b"%b%c%b\n" % (HEADER.pack(len(payload) + 1, 0), kind, payload)


def box(value: Unboxed) -> Plain:
    """Say of a value how it crosses."""
    if isinstance(value, Reference):
        return _YOURS if not value.is_ours else _MINE, value.id_pack
    if isinstance(value, tuple) and _holds_references(value):
        return _TUPLE, tuple([box(item) for item in value])
    return _VALUE, value


def _holds_references(value: tuple[Unboxed, ...]) -> bool:
    return any(isinstance(item, Reference) or (isinstance(item, tuple) and _holds_references(item)) for item in value)


def unbox(boxed: Plain) -> Unboxed:
    """Give the value that crossed.

    Raises:
        BrineError: it is no box.
    """
    match boxed:
        case (1, value):
            return value
        case (2, tuple(items)):
            return tuple([unbox(item) for item in items])
        case (3 | 4 as label, (str(name), int(kind), int(number))):
            return Reference((name, kind, number), is_ours=label == _YOURS)
    raise BrineError("a value that does not say how it crosses")


def references(value: Unboxed) -> list[Reference]:
    """Give all references to the other side's objects that a value holds."""
    if isinstance(value, Reference):
        return [] if value.is_ours else [value]
    if isinstance(value, tuple):
        return [found for item in value for found in references(item)]
    return []
