"""Inline commands, as a person types them into `nc`, and what a browser sends instead; pure.

Quoting is Redis': `"…"` knows `\\n`, `\\r`, `\\t`, `\\a`, `\\b`, `\\xHH` and takes any other escaped character as
it is; `'…'` knows `\\'` alone; a closing quote ends the word.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

MAX_LINE: Final = 64 * 1024  # bytes; Redis' own limit of an inline command

_PIECE = re.compile(rb"""[ \t]+|"((?:[^"\\]|\\.)*)"(?=[ \t]|$)|'((?:[^'\\]|\\.)*)'(?=[ \t]|$)|([^ \t"']+)""", re.DOTALL)
_DOUBLE_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_NAMED: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}

_FIRST = re.compile(rb"""[A-Za-z"' \t\r\n]""")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|$)")

_BROWSER = re.compile(rb"(GET|HEAD) +(/[^ ]*|https?://[^ ]*)(?: +HTTP/[0-9.]+)? *")
_OTHER_HTTP = re.compile(
    rb"(?:POST|PUT|DELETE|PATCH|OPTIONS|CONNECT|TRACE|PRI|HEAD)(?:[ \t].*)?"  # a request's first line
    rb"|[^ \t]+:(?:[ \t].*)?"  # a header
    rb"|.*[ \t]HTTP/[0-9.]+[ \t]*",  # any other method
    re.IGNORECASE | re.DOTALL,
)


class ProtocolError(Exception):
    """The bytes are no RESP; the text is one line, for the other side. `code` is the error's on the wire."""

    def __init__(self, text: str, code: str = "ERR") -> None:
        super().__init__(text)
        self.code = code


class BrowserRequest(Struct, frozen=True):
    """A browser opened the port: `GET` or `HEAD`, and the path that it wants."""

    method: str
    target: str


def check_start(text: bytes) -> None:
    """Refuse what cannot become an inline command, however it goes on: TLS, AMQP and ZMTP greetings, binary.

    Raises:
        ProtocolError: it cannot.
    """
    if not _FIRST.match(text):
        raise ProtocolError("this port speaks RESP, the Redis protocol; these bytes are something else")
    if _CONTROL.search(text):
        raise ProtocolError("an inline command holds no control characters; send it as an array of bulk strings")


def browser_request(line: bytes) -> BrowserRequest | None:
    """Tell whether a first line is a browser's.

    Raises:
        ProtocolError: it is HTTP that is not answered here: any method but GET and HEAD, a header line.
    """
    match = _BROWSER.fullmatch(line)
    if match is not None:
        return BrowserRequest(match[1].decode(), match[2].decode("latin-1"))
    refuse_http(line)
    return None


def refuse_http(line: bytes) -> None:
    """Refuse whatever a browser can be tricked into sending, as Redis does with POST and Host.

    Raises:
        ProtocolError: the line is HTTP.
    """
    if _OTHER_HTTP.fullmatch(line):
        raise ProtocolError("this port speaks RESP, not HTTP; nothing was run")


def split(line: bytes) -> list[bytes]:
    """Split a line into words.

    Raises:
        ProtocolError: a quote is not closed, or something follows a closing quote.
    """
    words: list[bytes] = []
    pieces: list[bytes] = []  # of the word being read; empty between words
    at = 0
    while at < len(line):
        match = _PIECE.match(line, at)
        if match is None:
            raise ProtocolError("unbalanced quotes in the command")
        at = match.end()
        if match[1] is not None:
            pieces.append(_DOUBLE_ESCAPE.sub(_unescape, match[1]))
        elif match[2] is not None:
            pieces.append(match[2].replace(b"\\'", b"'"))
        elif match[3] is not None:
            pieces.append(match[3])
        elif pieces:
            words.append(b"".join(pieces))
            pieces = []
    if pieces:
        words.append(b"".join(pieces))
    return words


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return bytes((int(match[1], 16),))
    return _NAMED.get(match[2], match[2])
