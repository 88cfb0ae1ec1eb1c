"""Frames of RPyC, from bytes to messages; pure. No claim is believed before its bytes are there."""

from __future__ import annotations

import zlib
from typing import Final

from msgspec import Struct

from remoterun_rpc.protocol import AROUND, HEADER, Message, ProtocolError, parse

MOST_SKIPPED: Final = 64 * 2**20  # bytes of a message that is too large and is passed over to say so
_START: Final = 64  # bytes of a message that hold its number
_PACKED_START: Final = 1024  # bytes of a compressed message that hold so much: what its code is comes first


class TooLong(Struct, frozen=True):
    """A message that is longer than what is taken: what its start says, and no more of it."""

    kind: int
    number: int


class FrameReader:
    """Takes bytes, gives messages.

    Parameters:
        limit: bytes of a message; may be changed.
        skips: whether a longer message is passed over (up to `MOST_SKIPPED`), rather than an error.
    """

    __slots__ = ("_buffer", "_skip", "limit", "skips")

    def __init__(self, limit: int, skips: bool) -> None:
        self.limit = limit
        self.skips = skips
        self._buffer = bytearray()
        self._skip = 0

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        self._buffer += data

    def next(self) -> Message | TooLong | None:
        """Give the next message, or None until there are more bytes.

        Raises:
            ProtocolError: the bytes are no RPyC, or are a message that is longer than allowed.
        """
        if len(self._buffer) < HEADER.size:
            return None
        length, compressed = HEADER.unpack_from(self._buffer)
        if length > self.limit:
            return self._too_long(length, compressed)
        if len(self._buffer) < length + AROUND:
            return None
        payload = bytes(self._buffer[HEADER.size : HEADER.size + length])
        del self._buffer[: length + AROUND]
        return self._unpacked(payload) if compressed else parse(payload)

    def _unpacked(self, payload: bytes) -> Message | TooLong:
        unpacked = _decompress(payload, self.limit + 1)
        if len(unpacked) <= self.limit:
            return parse(unpacked)
        if not self.skips:
            raise ProtocolError(f"a message of more than {self.limit} bytes")
        return _start(unpacked)

    def _too_long(self, length: int, compressed: int) -> TooLong | None:
        if not self.skips or length > MOST_SKIPPED:
            raise ProtocolError(f"a message of {length} bytes, where {self.limit} are taken")
        if len(self._buffer) < HEADER.size + _PACKED_START:
            return None
        start = bytes(self._buffer[HEADER.size : HEADER.size + _PACKED_START])
        total = length + AROUND
        self._skip = max(0, total - len(self._buffer))
        del self._buffer[:total]
        return _start(_decompress(start, _START, cut=True) if compressed else start)


def _start(payload: bytes) -> TooLong:
    message = parse(payload[:_START])
    return TooLong(message.kind, message.number)


def _decompress(data: bytes, limit: int, cut: bool = False) -> bytes:
    """Decompress up to `limit` bytes; `cut` says that the data may end before its end."""
    decompressor = zlib.decompressobj()
    try:
        unpacked = decompressor.decompress(data, limit)
    except zlib.error as error:
        raise ProtocolError("a message that is compressed, and broken") from error
    if not cut and len(unpacked) < limit and not decompressor.eof:
        raise ProtocolError("a message that is compressed, and cut short")
    return unpacked
