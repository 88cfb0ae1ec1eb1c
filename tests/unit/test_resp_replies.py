"""Replies: what the server encodes, the client decodes, in both versions of the protocol and however it is cut."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun_socket.protocol import (
    NOTHING,
    ErrorReply,
    ProtocolError,
    ReplyReader,
    Simple,
    bulk,
    bulk_header,
    encode,
    error,
    push,
)

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=50),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.binary(max_size=5), inner, max_size=3)),
    max_leaves=10,
)


def read(pieces: list[bytes]) -> list[Any]:
    reader = ReplyReader()
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.next()) is not NOTHING:
            found.append(reply)
    return found


@given(st.lists(values, min_size=1, max_size=4))
def test_resp3_gives_every_value_back(sent: list[Any]) -> None:
    data = b"".join(encode(value, resp3=True) for value in sent)
    assert read([data]) == sent
    assert read([bytes((byte,)) for byte in data]) == sent


def as_resp2(value: Any) -> Any:
    match value:
        case bool():
            return int(value)
        case float():
            return repr(value).encode()
        case list():
            return [as_resp2(item) for item in value]
        case dict():
            return [as_resp2(part) for item in value.items() for part in item]
    return value


@given(values)
def test_resp2_gives_values_back_in_the_forms_that_it_has(sent: Any) -> None:
    assert read([encode(sent, resp3=False)]) == [as_resp2(sent)]


@given(st.from_regex(r"[A-Z_]+", fullmatch=True), st.text())
def test_an_error_is_one_line_whatever_its_text(code: str, text: str) -> None:
    data = error(code, text.encode("utf-8", "replace").decode())
    assert data.count(b"\r") == data.count(b"\n") == 1
    (reply,) = read([data])
    assert isinstance(reply, ErrorReply)
    assert reply.code == code


@pytest.mark.parametrize("resp3", [False, True])
def test_forms_that_are_no_values(resp3: bool) -> None:
    assert encode(Simple("OK"), resp3) == b"+OK\r\n"
    assert encode(Simple("a\r\nb"), resp3) == b"+a b\r\n"
    assert encode(ErrorReply("ERR", "no"), resp3) == b"-ERR no\r\n"
    assert encode("grüß", resp3) == bulk("grüß".encode())
    assert encode(None, resp3) == (b"_\r\n" if resp3 else b"$-1\r\n")


def test_a_push_message_is_an_array_in_resp2() -> None:
    assert push(b"event", b"{}", resp3=True) == b">2\r\n$5\r\nevent\r\n$2\r\n{}\r\n"
    assert push(b"event", b"{}", resp3=False) == b"*2\r\n$5\r\nevent\r\n$2\r\n{}\r\n"


def test_a_bulk_string_may_come_in_pieces() -> None:
    assert read([bulk_header(6), b"abc", b"def", b"\r\n"]) == [b"abcdef"]


def test_a_value_without_a_form_is_a_defect() -> None:
    with pytest.raises(TypeError, match="object"):
        encode(object(), resp3=True)


@given(st.binary(max_size=100))
def test_garbage_raises_only_the_protocols_error(data: bytes) -> None:
    with suppress(ProtocolError):
        read([data])
