"""One blocking connection to a node, on which one caller at a time asks.

It speaks RPyC's protocol to a node or to any RPyC server that has the same methods; no proxy of the other side's
objects is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from remoterun.dialling import dial
from remoterun.errors import Internal, ServiceError, Unavailable
from remoterun.pooled import Lost, no_connection
from remoterun.transport import Target
from remoterun_rpc import failures, protocol
from remoterun_rpc.address import Address
from remoterun_rpc.brine import BrineError, Plain
from remoterun_rpc.frames import FrameReader, TooLong
from remoterun_rpc.protocol import Handler, Message, ProtocolError, Reference, Unboxed

if TYPE_CHECKING:
    pass

_RECEIVE: Final = 64 * 1024  # bytes taken from the kernel at once
_LONGEST: Final = 2**32  # bytes of an answer: as many as a frame can have
_CALLBACK: Final = Reference(("builtins.function", 1, 1), is_ours=True)  # a class that RPyC knows


class Channel:
    """One connection, on which one caller at a time asks.

    Raises:
        Unavailable: nothing answers at the address.
    """

    def __init__(self, address: Address, target: Target) -> None:
        self._address = address
        self._timeout = target.timeout
        self._reader = FrameReader(_LONGEST, skips=False)
        self._numbers = count(1)
        self._root: Reference | None = None
        try:
            self._socket = dial(address.host, address.port, target, tls=address.scheme == "rpycs")
        except OSError as error:  # an SSLError is one
            raise no_connection(address, error) from error

    def is_quiet(self) -> bool:
        """Tell whether the other side neither closed nor said anything while nothing was asked."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError as error:
            return type(error).__name__ == "SSLWantReadError"  # by its name: `ssl` is slow to import
        return False

    def call(self, method: str, *arguments: Unboxed, timeout: float | None) -> Plain | ServiceError:
        """Call a method and give what it answers: a value, or the error with which the call was refused.

        Raises:
            Lost: the connection broke.
            Unavailable: no answer came within `timeout` seconds.
            Internal: the answer is none of ours.
        """
        number = self._begin(method, arguments, timeout)
        while True:
            message = self._receive(timeout)
            if message.kind == protocol.REQUEST:
                self._serve(message)
            elif message.number == number:
                return self._value(message)

    def stream(self, method: str, *arguments: Unboxed) -> Iterator[Plain]:
        """Call a method with a callback after the arguments; iterate over what that is called with.

        A piece is acknowledged when the next is asked for: a node waits for who is slow.

        Raises:
            Lost: the connection broke.
            ServiceError: the node refused the call, or ended it early.
        """
        number = self._begin(method, (*arguments, _CALLBACK), None)
        while True:
            message = self._receive(None)
            if message.kind == protocol.REQUEST:
                piece = self._piece(message)
                if piece is None:
                    self._serve(message)
                    continue
                yield piece
                self._send(protocol.reply(message.number, None), sent=True)
            elif message.number == number:
                if isinstance(answer := self._value(message), ServiceError):
                    raise answer
                return

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _begin(self, method: str, arguments: tuple[Unboxed, ...], timeout: float | None) -> int:
        if self._root is None:
            self._root = self._find_root()
        number = next(self._numbers)
        self._socket.settimeout(timeout)
        self._send(protocol.call(number, self._root, method, arguments), sent=False)
        return number

    def _find_root(self) -> Reference:
        number = next(self._numbers)
        self._socket.settimeout(self._timeout)
        self._send(protocol.request(number, Handler.GETROOT), sent=False)
        message = self._receive(self._timeout, sent=False)
        root = _unboxed(message) if message.kind == protocol.REPLY and message.number == number else None
        if not isinstance(root, Reference):
            raise no_connection(self._address, "what answers there is no RPyC")
        return Reference(root.id_pack, is_ours=False)

    def _send(self, frame: bytes, sent: bool) -> None:
        try:
            self._socket.sendall(frame)
        except TimeoutError as error:
            raise self._too_late() from error
        except OSError as error:
            raise Lost(error, sent) from error

    def _receive(self, timeout: float | None, sent: bool = True) -> Message:
        self._socket.settimeout(timeout)
        try:
            while (found := self._reader.next()) is None:
                data = self._socket.recv(_RECEIVE)
                if not data:
                    raise Lost("the connection was closed", sent)
                self._reader.feed(data)
        except TimeoutError as error:
            raise self._too_late() from error
        except OSError as error:
            raise Lost(error, sent) from error
        except ProtocolError as error:
            raise no_connection(self._address, f"what answers there is no RPyC: {error}") from error
        if isinstance(found, TooLong):
            raise Internal("the node sent a message that no frame can hold")
        return found

    def _serve(self, message: Message) -> None:
        """Answer what the other side asks of us: it may let go of the callback, and nothing else."""
        try:
            handler, _ = message.request()
        except BrineError:
            handler = None
        if handler in (Handler.DEL, Handler.PING):
            answer = protocol.reply(message.number, None)
        else:
            answer = protocol.exception(message.number, failures.no_attribute("there is nothing here"))
        self._send(answer, sent=True)

    def _piece(self, message: Message) -> Plain:
        """Give what the callback is called with, None where something else is asked."""
        try:
            match message.request():
                case Handler.CALL, (Reference(_CALLBACK.id_pack, is_ours=True), (piece,), *_):
                    return piece if isinstance(piece, (str, bytes)) else None
        except BrineError as error:
            raise Internal(f"the node sent a message that this version does not know: {error}") from error
        return None

    def _value(self, message: Message) -> Plain | ServiceError:
        if message.kind == protocol.EXCEPTION:
            return _raised(message)
        value = _unboxed(message)
        if isinstance(value, (Reference, tuple)):
            raise Internal("the node answered with something that is no plain value")
        plain: Plain = value
        return plain

    def _too_late(self) -> Unavailable:
        return no_connection(self._address, f"no answer within {self._timeout:g} s")


def _unboxed(message: Message) -> Any:
    try:
        return protocol.unbox(message.body())
    except BrineError as error:
        raise Internal(f"the node's answer is none that this version knows: {error}") from error


def _raised(message: Message) -> ServiceError:
    try:
        return failures.service_error(message.body())
    except BrineError as error:
        return Internal(f"the node raised what this version does not know: {error}")
