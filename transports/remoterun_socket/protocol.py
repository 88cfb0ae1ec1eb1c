"""RESP, the Redis protocol, without input or output: bytes in, values out, and back.

The server reads commands (`CommandParser`) and writes replies (`encode` and its parts); a client writes
commands (`encode_command`) and reads replies (`ReplyReader`). Both ends are pure: no socket, no clock.

The command parser is our own and not hiredis, because hiredis makes a list as long as an array's header
claims before its items are there: here nothing is allocated on a claim.
See https://redis.io/docs/latest/develop/reference/protocol-spec/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import hiredis
from msgspec import Struct

from remoterun_socket import inline
from remoterun_socket.inline import BrowserRequest, ProtocolError

__all__ = [
    "NOTHING",
    "BrowserRequest",
    "CommandParser",
    "ErrorReply",
    "ProtocolError",
    "ReplyReader",
    "Simple",
    "bulk",
    "bulk_header",
    "encode",
    "encode_command",
    "error",
    "push",
]

BEFORE_AUTHENTICATION: Final = 8 * 1024  # bytes held of a caller while nobody knows who it is
MAX_WORDS: Final = 65_536  # of one command: a word costs more in memory than on the wire
MAX_HEADER: Final = 16  # "*" or "$", a length, CR LF: no honest header is longer

_STAR: Final = ord("*")
_HEADERS: Final = {b"$%d" % length: length for length in range(1024)}  # what nearly every word's header is
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_PARTIAL_HEADER = re.compile(rb"[*$]-?[0-9]*\r?")


class CommandParser:
    """Cut a stream of bytes into commands.

    Parameters:
        limit: bytes that one command may take on the wire; may be raised between commands, as when
            the caller authenticated.
    """

    __slots__ = ("_at", "_browser", "_data", "_failure", "_left", "_need", "_pieces", "_used", "_words", "limit")

    def __init__(self, limit: int = BEFORE_AUTHENTICATION) -> None:
        self.limit = limit
        self._data = b""
        self._at = 0
        self._pieces: list[bytes] = []  # what came after `_data` and was not joined to it yet
        self._need = 0  # bytes from `_at` on without which trying again is useless
        self._words: list[bytes] | None = None  # of an array whose end has not come
        self._left = 0  # words of it that are still to come
        self._used = 0  # bytes that it took so far
        self._browser: bool | BrowserRequest = True  # whether a browser may still open the conversation, or which did
        self._failure: ProtocolError | None = None

    @property
    def held(self) -> int:
        """How many bytes wait here for the rest of their command."""
        return self._waiting() + self._used

    def feed(self, data: bytes) -> None:
        """Take what the wire gave."""
        if self._failure is not None:
            return
        if self._at == len(self._data):
            self._data = data
            self._at = 0
        else:
            self._pieces.append(data)

    def next(self) -> list[bytes] | BrowserRequest | None:
        """Give the next command as its words, or None until more bytes came.

        Raises:
            ProtocolError: the bytes are no command, or too many; the conversation is over.
        """
        if self._failure is not None:
            raise self._failure
        try:
            if self._pieces and not self._join():
                return None
            if self._words is not None:
                return self._array(self._words)
            return self._command()
        except ProtocolError as failure:
            self._failure = failure
            self._data, self._at, self._pieces, self._words, self._used = b"", 0, [], None, 0
            raise

    def _waiting(self) -> int:
        return len(self._data) - self._at + sum(map(len, self._pieces))

    def _join(self) -> bool:
        if self._waiting() < self._need:
            return False
        self._data = b"".join((self._data[self._at :], *self._pieces))
        self._at = 0
        self._pieces = []
        return True

    def _command(self) -> list[bytes] | BrowserRequest | None:
        data, at = self._data, self._at
        if at == len(data):
            return None
        if data[at] != _STAR or isinstance(self._browser, BrowserRequest):
            return self._line()
        end = data.find(b"\r\n", at, at + MAX_HEADER)
        if end < 0:
            self._await_header(at)
            return None
        count = _length(data[at + 1 : end])
        if not 1 <= count <= MAX_WORDS:
            raise ProtocolError(f"a command has 1 to {MAX_WORDS} words, not {count}")
        self._browser = False
        self._left = count
        self._used = end + 2 - at
        self._at = end + 2
        return self._array([])

    def _array(self, words: list[bytes]) -> list[bytes] | None:
        data, at, used = self._data, self._at, self._used
        find, size = data.find, len(data)
        for left in range(self._left, 0, -1):
            end = find(b"\r\n", at, at + MAX_HEADER)
            length = _HEADERS.get(data[at:end]) if end >= 0 else 0
            if length is None:
                length = _word_length(data[at:end])
            stop = end + 2 + length
            whole = stop + 2 - at
            if end >= 0 and used + whole > self.limit:
                raise _too_large(self.limit)
            if end < 0 or stop + 2 > size:
                self._words, self._left, self._used, self._at = words, left, used, at
                self._need = whole if end >= 0 else 0
                if end < 0:
                    self._await_header(at)
                return None
            if data[stop : stop + 2] != b"\r\n":
                raise ProtocolError("a word is not as long as its header says")
            words.append(data[end + 2 : stop])
            used += whole
            at = stop + 2
        self._words, self._used, self._need, self._at = None, 0, 0, at
        return words

    def _await_header(self, at: int) -> None:
        """Wait for the rest of a header, unless what there is cannot become one."""
        start = self._data[at : at + MAX_HEADER]
        wrong_kind = self._words is not None and start[:1] not in b"$"
        if wrong_kind or len(start) == MAX_HEADER or not (_PARTIAL_HEADER.fullmatch(start) or not start):
            raise _bad_header(start)

    def _line(self) -> list[bytes] | BrowserRequest | None:
        while self._at < len(self._data):
            bound = min(self.limit, inline.MAX_LINE)
            end = self._data.find(b"\n", self._at, self._at + bound)
            line = self._data[self._at : end if end >= 0 else self._at + bound]
            inline.check_start(line or b"\n")
            if end < 0:
                if len(line) == bound:
                    raise _too_large(bound)
                return None
            self._at = end + 1
            found = self._one_line(line.removesuffix(b"\r"))
            if found is not None:
                return found
            if not isinstance(self._browser, BrowserRequest) and self._data[self._at : self._at + 1] == b"*":
                return self._command()
        return None

    def _one_line(self, line: bytes) -> list[bytes] | BrowserRequest | None:
        if isinstance(self._browser, BrowserRequest):
            self._used += len(line) + 2
            if self._used > self.limit:
                raise _too_large(self.limit)
            return None if line else self._browser
        if not line.strip():
            return None
        if self._browser:
            self._browser = inline.browser_request(line) or False
            if self._browser:
                return None
        inline.refuse_http(line)
        return inline.split(line) or None


class Simple(Struct, frozen=True):
    """A status line of a reply, such as `OK`."""

    text: str


class ErrorReply(Struct, frozen=True):
    """An error of a reply: a code in capitals, and one line of text."""

    code: str
    message: str


OK: Final = b"+OK\r\n"


def bulk(data: bytes) -> bytes:
    """Encode bytes as a bulk string."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def bulk_header(size: int) -> bytes:
    """Encode what goes before `size` bytes of a bulk string that is sent in pieces; CR LF goes after them."""
    return b"$%d\r\n" % size


def error(code: str, message: str) -> bytes:
    """Encode an error; what would break its line becomes a space."""
    return f"-{code} {_one_line(message)}\r\n".encode()


def push(kind: bytes, data: bytes, resp3: bool) -> bytes:
    """Encode a message of a stream: a push message in RESP3, an array in RESP2."""
    return b"%b2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (b">" if resp3 else b"*", len(kind), kind, len(data), data)


def encode(value: Any, resp3: bool) -> bytes:
    """Encode a reply made of None, bool, int, float, str, bytes, lists, maps, `Simple` and `ErrorReply`.

    RESP2 has no booleans, doubles or maps: there they are integers, bulk strings and flat arrays.
    """
    match value:
        case bytes():
            return bulk(value)
        case str():
            return bulk(value.encode())
        case None:
            return b"_\r\n" if resp3 else b"$-1\r\n"
        case bool():
            return (b"#t\r\n" if value else b"#f\r\n") if resp3 else b":%d\r\n" % value
        case int():
            return b":%d\r\n" % value
        case float():
            return b",%b\r\n" % repr(value).encode() if resp3 else bulk(repr(value).encode())
        case Simple():
            return b"+%b\r\n" % _one_line(value.text).encode()
        case ErrorReply():
            return error(value.code, value.message)
        case Mapping():
            flat = [encode(part, resp3) for item in value.items() for part in item]
            return b"".join((b"%%%d\r\n" % len(value) if resp3 else b"*%d\r\n" % len(flat), *flat))
        case list() | tuple():
            return b"".join((b"*%d\r\n" % len(value), *(encode(item, resp3) for item in value)))
    raise TypeError(f"{type(value).__name__} has no form in RESP")


def encode_command(*words: bytes) -> bytes:
    """Encode a command as an array of bulk strings."""
    return b"".join((b"*%d\r\n" % len(words), *map(bulk, words)))


NOTHING: Final = object()
"""What `ReplyReader.next` gives while no whole reply is there."""


class ReplyReader:
    """Cut a stream of bytes into replies, for a client, which trusts the server it chose."""

    __slots__ = ("_reader",)

    def __init__(self) -> None:
        self._reader = hiredis.Reader(protocolError=ProtocolError, replyError=_error_reply, notEnoughData=NOTHING)

    def feed(self, data: bytes) -> None:
        """Take what the wire gave."""
        self._reader.feed(data)

    def next(self) -> Any:
        """Give the next reply: bytes, int, float, bool, None, list, dict, `ErrorReply`; or `NOTHING`.

        Raises:
            ProtocolError: the bytes are no reply.
        """
        return self._reader.gets()


def _error_reply(text: str) -> Any:  # hiredis would have an exception, and takes any value
    code, _, message = text.partition(" ")
    return ErrorReply(code, message)


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _length(digits: bytes) -> int:
    if not digits.removeprefix(b"-").isdigit():
        raise _bad_header(digits)
    return int(digits)


def _word_length(header: bytes) -> int:
    if not header.startswith(b"$"):
        raise _bad_header(header)
    length = _length(header[1:])
    if length < 0:
        raise ProtocolError(f"a word cannot be {length} bytes long")
    return length


def _bad_header(found: bytes) -> ProtocolError:
    return ProtocolError(f"expected a header such as *2 or $5, not {found[:MAX_HEADER]!r}")


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(f"a command of more than {limit} bytes is not taken here", "TOO_LARGE")
