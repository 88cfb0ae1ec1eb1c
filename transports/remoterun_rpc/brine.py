"""Brine, RPyC's encoding of plain values; pure.

A value is a tag, and what the tag says is left of it. Taken are None, bool, int, float, str, bytes and tuples of
these. What else the encoding knows (complex numbers, slices, frozen sets …) has no JSON, and a frozen set of chosen
numbers can be made to cost its reader hours: it is refused. So are more values, and deeper ones, than any call has:
each costs the reader more than the byte that it takes on the wire.
"""

from __future__ import annotations

import struct
from typing import Final

Plain = None | bool | int | float | str | bytes | tuple["Plain", ...]

MOST_VALUES: Final = 10_000  # of one message
DEEPEST: Final = 32  # tuples in tuples

_NONE, _EMPTY_BYTES, _EMPTY_TUPLE, _TRUE, _FALSE = 0x00, 0x01, 0x02, 0x03, 0x04
_TEXT: Final = 0x08
_BYTES: Final = 0x0A  # of 1 byte; 0x0b to 0x0d: of 2 to 4
_BYTES_1, _BYTES_4 = 0x0E, 0x0F  # the length takes 1 byte, or 4
_TUPLE: Final = 0x10  # of 1 item; 0x11 to 0x13: of 2 to 4
_TUPLE_1, _TUPLE_4 = 0x14, 0x15
_INT_1, _INT_4 = 0x16, 0x17  # in decimal digits
_FLOAT: Final = 0x18
_SMALL: Final = 0x50  # what is added to the integers from -0x30 to 0x9f, which are their own tag
_LEAST, _GREATEST = -0x30, 0x9F
_LONGEST_INT: Final = 4000  # digits

_U32 = struct.Struct("!L")
_F64 = struct.Struct("!d")
_CONSTANTS: Final[dict[int, Plain]] = {
    _NONE: None,
    _EMPTY_BYTES: b"",
    _EMPTY_TUPLE: (),
    _TRUE: True,
    _FALSE: False,
    **{number + _SMALL: number for number in range(_LEAST, _GREATEST + 1)},
}
_ELSE: Final = (None,)  # no constant


class BrineError(ValueError):
    """The bytes are no value that is taken."""


def dump(value: Plain) -> bytes:
    """Encode a plain value.

    Raises:
        TypeError: it is none.
    """
    parts: list[bytes] = []
    _dump(value, parts)
    return b"".join(parts)


def _dump(value: Plain, parts: list[bytes]) -> None:
    kind = type(value)
    if kind is str:
        parts.append(b"\x08")
        _dump_bytes(value.encode(), parts)  # type: ignore[union-attr]
    elif kind is int:
        _dump_int(value, parts)  # type: ignore[arg-type]
    elif kind is tuple:
        _dump_tuple(value, parts)  # type: ignore[arg-type]
    elif kind is bytes:
        _dump_bytes(value, parts)  # type: ignore[arg-type]
    elif value is None:
        parts.append(b"\x00")
    elif kind is bool:
        parts.append(b"\x03" if value else b"\x04")
    elif kind is float:
        parts.append(b"\x18" + _F64.pack(value))
    else:
        raise TypeError(f"a {kind.__name__} is no plain value")


def _dump_bytes(value: bytes, parts: list[bytes]) -> None:
    size = len(value)
    if size == 0:
        parts.append(b"\x01")
        return
    if size <= 4:
        parts.append(bytes((_BYTES + size - 1,)))
    elif size < 256:
        parts.append(bytes((_BYTES_1, size)))
    else:
        parts.append(b"\x0f" + _U32.pack(size))
    parts.append(value)


def _dump_int(value: int, parts: list[bytes]) -> None:
    if _LEAST <= value <= _GREATEST:
        parts.append(bytes((value + _SMALL,)))
        return
    digits = b"%d" % value
    if len(digits) < 256:
        parts.append(bytes((_INT_1, len(digits))))
    else:
        parts.append(b"\x17" + _U32.pack(len(digits)))
    parts.append(digits)


def _dump_tuple(value: tuple[Plain, ...], parts: list[bytes]) -> None:
    size = len(value)
    if size == 0:
        parts.append(b"\x02")
    elif size <= 4:
        parts.append(bytes((_TUPLE + size - 1,)))
    elif size < 256:
        parts.append(bytes((_TUPLE_1, size)))
    else:
        parts.append(b"\x15" + _U32.pack(size))
    for item in value:
        _dump(item, parts)


class Reader:
    """Decodes values from bytes, one after another."""

    __slots__ = ("_data", "_left", "_position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self._position = position
        self._left = MOST_VALUES

    @property
    def is_at_end(self) -> bool:
        """Whether every byte was taken."""
        return self._position == len(self._data)

    def value(self, depth: int = 0) -> Plain:
        """Decode the next value.

        Raises:
            BrineError: the bytes are none that is taken.
        """
        position = self._position
        data = self._data
        try:
            tag = data[position]
        except IndexError as error:
            raise BrineError("the value is cut short") from error
        self._position = position + 1
        self._left -= 1
        if self._left < 0:
            raise BrineError(f"more than {MOST_VALUES} values")
        constant = _CONSTANTS.get(tag, _ELSE)
        if constant is not _ELSE:
            return constant
        if tag == _TEXT:
            return self._text()
        if _TUPLE <= tag <= _TUPLE_4:
            return self._tuple(tag - _TUPLE + 1 if tag < _TUPLE_1 else self._size(tag, _TUPLE), depth)
        if _BYTES <= tag <= _BYTES_4:
            return self._take(self._size(tag, _BYTES))
        if tag in (_INT_1, _INT_4):
            return self._int(self._byte() if tag == _INT_1 else self._u32())
        if tag == _FLOAT:
            value: float = _F64.unpack(self._take(8))[0]
            return value
        raise BrineError("a value that is neither None, bool, int, float, str, bytes nor a tuple")

    def items(self) -> int:
        """Take the head of a tuple, and give how many items follow.

        Raises:
            BrineError: what follows is no tuple.
        """
        tag = self._byte()
        if tag == _EMPTY_TUPLE:
            return 0
        if not _TUPLE <= tag <= _TUPLE_4:
            raise BrineError("no tuple where one must be")
        return self._size(tag, _TUPLE)

    def _size(self, tag: int, first: int) -> int:
        """Give the size that is in a tag, or follows it: the tags of bytes and tuples go alike."""
        if tag < first + 4:
            return tag - first + 1
        return self._byte() if tag == first + 4 else self._u32()

    def _tuple(self, size: int, depth: int) -> tuple[Plain, ...]:
        if depth >= DEEPEST:
            raise BrineError(f"tuples nested deeper than {DEEPEST}")
        if size > self._left:
            raise BrineError(f"more than {MOST_VALUES} values")
        return tuple([self.value(depth + 1) for _ in range(size)])

    def _text(self) -> str:
        tag = self._byte()
        if tag == _EMPTY_BYTES:
            return ""
        if not _BYTES <= tag <= _BYTES_4:
            raise BrineError("a text without bytes")
        try:
            return self._take(self._size(tag, _BYTES)).decode()
        except UnicodeDecodeError as error:
            raise BrineError("a text that is no UTF-8") from error

    def _int(self, size: int) -> int:
        digits = self._take(size)
        if size > _LONGEST_INT or not digits.removeprefix(b"-").isdigit():
            raise BrineError("a number that is none, or too long")
        return int(digits)

    def _byte(self) -> int:
        position = self._position
        self._position = position + 1
        try:
            return self._data[position]
        except IndexError as error:
            raise BrineError("the value is cut short") from error

    def _u32(self) -> int:
        value: int = _U32.unpack(self._take(4))[0]
        return value

    def _take(self, count: int) -> bytes:
        taken = self._data[self._position : self._position + count]
        if len(taken) != count:
            raise BrineError("the value is cut short")
        self._position += count
        return taken
