"""Brine: the same bytes as RPyC's own, and garbage that raises only the declared error."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rpyc.core import brine as theirs

from remoterun_rpc import brine
from remoterun_rpc.brine import DEEPEST, MOST_VALUES, BrineError, Reader

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-0x32, 0xA2),  # around what is its own tag
    st.floats(),
    st.text(),
    st.binary(),
    st.integers(250, 260).map(lambda size: "x" * size),
    st.integers(0, 6).map(lambda size: b"x" * size),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=6).map(tuple), max_leaves=20)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return type(other) is tuple and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and one == other


@given(VALUES)
def test_what_is_written_is_what_rpyc_writes(value: Any) -> None:
    assert brine.dump(value) == theirs.dump(value)


@given(VALUES)
def test_what_rpyc_writes_is_read(value: Any) -> None:
    reader = Reader(theirs.dump(value))
    assert same(reader.value(), value)
    assert reader.is_at_end


@pytest.mark.parametrize("size", [5, 255, 256, 300])
def test_tuples_of_every_size(size: int) -> None:
    value = tuple(range(size))
    assert brine.dump(value) == theirs.dump(value)
    assert Reader(theirs.dump(value)).value() == value


@pytest.mark.parametrize("digits", [1, 254, 255, 256, 3999])
@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_of_every_size(digits: int, sign: int) -> None:
    value = sign * (10**digits - 1)
    assert brine.dump(value) == theirs.dump(value)
    assert Reader(theirs.dump(value)).value() == value


@given(VALUES, st.data())
def test_what_is_cut_short_is_no_value(value: Any, data: st.DataObject) -> None:
    encoded = theirs.dump(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(BrineError):
        Reader(encoded[:cut]).value()


@given(st.binary(max_size=300))
def test_garbage_raises_only_the_declared_error(data: bytes) -> None:
    with contextlib.suppress(BrineError):
        Reader(data).value()


@pytest.mark.parametrize(
    "value", [1j, slice(1), frozenset({1}), ..., NotImplemented, (1, (2, frozenset()))], ids=lambda value: repr(value)
)
def test_what_has_no_json_is_refused(value: Any) -> None:
    with pytest.raises(BrineError, match="neither"):
        Reader(theirs.dump(value)).value()


@pytest.mark.parametrize("value", [[1], {}, object(), 1j])
def test_what_is_no_plain_value_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError):
        brine.dump(value)


def test_depth_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        return b"\x10" * depth + b"\x00"

    Reader(nested(DEEPEST)).value()
    for depth in (DEEPEST + 1, 100_000):
        with pytest.raises(BrineError, match="deeper"):
            Reader(nested(depth)).value()


@pytest.mark.parametrize("claim", [MOST_VALUES, 2**32 - 1])
def test_the_count_of_values_is_bounded_before_any_is_made(claim: int) -> None:
    with pytest.raises(BrineError, match="more than"):
        Reader(b"\x15" + claim.to_bytes(4, "big") + b"\x00" * 10).value()
    many = theirs.dump(((0,) * 5000, (0,) * 5001))
    with pytest.raises(BrineError, match="more than"):
        Reader(many).value()


@pytest.mark.parametrize("digits", [b"", b"-", b"1.5", b"0x1f", b" 1", b"1_0", "٣".encode()])
def test_a_number_is_decimal_digits(digits: bytes) -> None:
    with pytest.raises(BrineError, match="number"):
        Reader(b"\x16" + bytes((len(digits),)) + digits).value()


def test_a_number_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(BrineError, match="number"):
        Reader(b"\x17" + (10**6).to_bytes(4, "big") + b"9" * 10**6).value()


def test_a_text_is_utf8() -> None:
    with pytest.raises(BrineError, match="UTF-8"):
        Reader(b"\x08\x0b\xff\xfe").value()
    with pytest.raises(BrineError, match="without bytes"):
        Reader(b"\x08\x51").value()
