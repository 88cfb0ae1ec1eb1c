"""The command parser: any split of the bytes gives the same commands, and garbage only the declared error."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remoterun_socket.protocol import (
    BEFORE_AUTHENTICATION,
    MAX_WORDS,
    BrowserRequest,
    CommandParser,
    ProtocolError,
    encode_command,
)

LARGE = 1 << 20

commands = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), min_size=1, max_size=5)


def parse(pieces: list[bytes], limit: int = LARGE) -> list[list[bytes] | BrowserRequest]:
    parser = CommandParser(limit)
    found: list[list[bytes] | BrowserRequest] = []
    for piece in pieces:
        parser.feed(piece)
        while (command := parser.next()) is not None:
            found.append(command)
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(commands, st.lists(st.integers(min_value=0), max_size=8))
@example([[b"\r\n"], [b""]], [1, 2, 3])
def test_any_split_of_the_bytes_gives_the_same_commands(sent: list[list[bytes]], places: list[int]) -> None:
    data = b"".join(encode_command(*words) for words in sent)
    assert parse(cut(data, places)) == sent


@given(commands)
def test_byte_by_byte_gives_the_same_commands(sent: list[list[bytes]]) -> None:
    data = b"".join(encode_command(*words) for words in sent)
    assert parse([bytes((byte,)) for byte in data]) == sent


@given(commands)
def test_nothing_is_found_before_the_last_byte(sent: list[list[bytes]]) -> None:
    data = b"".join(encode_command(*words) for words in sent)
    assert parse([data[:-1]]) == sent[:-1]


def test_bytes_that_trail_a_command_wait_for_the_rest() -> None:
    parser = CommandParser()
    parser.feed(encode_command(b"PING") + b"*1\r\n$4\r\nPI")
    assert parser.next() == [b"PING"]
    assert parser.next() is None
    parser.feed(b"NG\r\n")
    assert parser.next() == [b"PING"]
    assert parser.held == 0


def test_inline_commands_and_arrays_mix_on_one_connection() -> None:
    data = b"\r\nPING\r\n*1\r\n$4\r\nPING\r\nRUN hello\n\n*1\r\n$4\r\nQUIT\r\n"
    assert parse([data]) == [[b"PING"], [b"PING"], [b"RUN", b"hello"], [b"QUIT"]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'RUN hello name="Ada Lovelace"', [b"RUN", b"hello", b"name=Ada Lovelace"]),
        (b"RUN x 'items:=[1, \"a\"]'", [b"RUN", b"x", b'items:=[1, "a"]']),
        (rb'PING "a\r\n\t\a\b\x00\xfF\q\"\\"', [b"PING", b'a\r\n\t\a\b\x00\xffq"\\']),
        (rb"PING 'it\'s \n'", [b"PING", rb"it's \n"]),
        (b"  PING\t \tx  ", [b"PING", b"x"]),
        (b'PING ""', [b"PING", b""]),
        ("PING grüß".encode(), [b"PING", "grüß".encode()]),
    ],
)
def test_inline_quoting_is_that_of_redis(line: bytes, words: list[bytes]) -> None:
    assert parse([line + b"\r\n"]) == [words]


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5))
def test_every_value_can_be_quoted_inline(words: list[bytes]) -> None:
    line = b" ".join(b'"' + b"".join(b"\\x%02x" % byte for byte in word) + b'"' for word in words)
    assert parse([line + b"\r\n"]) == [words]


@pytest.mark.parametrize(
    "data",
    [
        b"*1000000000\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*\r\n",
        b"*x\r\n",
        b"*+1\r\n",
        b"*1_0\r\n",
        b"* 1\r\n",
        b"*11111111111111111111111111",
        b"*1\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$1000000000\r\n",
        b"*1\r\n$99999999999999999999999999",
        b"*1\r\n:5\r\n",
        b"*1\r\nPING\r\n",
        b"*1\r\n*1\r\n",
        b"*1\r\n$1\r\nabc\r\n",
        b"*1\r\n$3\r\na\r\nxx",
        b"PING 'x\r\n",
        b'PING "x"y\r\n',
        b"PING \x00",
        b"\x16\x03\x01\x02\x00\x01",  # TLS
        b"AMQP\x00\x00\x09\x01",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",  # ZMTP
        b"+OK\r\n",
        b"$4\r\nPING\r\n",
    ],
)
def test_what_is_no_command_ends_the_conversation(data: bytes) -> None:
    parser = CommandParser()
    parser.feed(data)
    with pytest.raises(ProtocolError, match=r"^[^\r\n]+$"):
        parser.next()
    parser.feed(encode_command(b"PING"))
    with pytest.raises(ProtocolError):
        parser.next()
    assert parser.held == 0


@given(st.binary(max_size=300), st.lists(st.integers(min_value=0), max_size=4))
def test_garbage_raises_nothing_else(data: bytes, places: list[int]) -> None:
    with suppress(ProtocolError):
        found = parse(cut(data, places))
        assert all(isinstance(command, BrowserRequest) or command for command in found)


@given(
    st.lists(st.sampled_from([b"*1", b"*2", b"$1", b"$0", b"\r\n", b"\r", b"a", b"GET / ", b'"', b"'"]), max_size=20)
)
def test_garbage_of_the_protocols_own_pieces_raises_nothing_else(pieces: list[bytes]) -> None:
    try:
        whole: object = parse([b"".join(pieces)])
    except ProtocolError as error:
        whole = error.code
    try:
        split: object = parse([bytes((byte,)) for byte in b"".join(pieces)])
    except ProtocolError as error:
        split = error.code
    assert type(whole) is type(split)


def test_no_more_than_8_kib_is_held_before_authentication() -> None:
    parser = CommandParser()
    parser.feed(encode_command(b"PING", b"x" * BEFORE_AUTHENTICATION))
    with pytest.raises(ProtocolError, match="8192 bytes") as raised:
        parser.next()
    assert raised.value.code == "TOO_LARGE"
    assert parser.held == 0


def test_a_claim_above_the_limit_is_refused_before_its_bytes_come() -> None:
    parser = CommandParser(1000)
    parser.feed(b"*2\r\n$4\r\nPING\r\n$1000\r\n")
    with pytest.raises(ProtocolError, match="1000 bytes"):
        parser.next()


def test_many_small_words_count_against_the_limit() -> None:
    parser = CommandParser(1000)
    parser.feed(b"*%d\r\n" % MAX_WORDS + b"$0\r\n\r\n" * 200)
    with pytest.raises(ProtocolError, match="1000 bytes"):
        parser.next()


def test_a_command_may_fill_the_limit_exactly() -> None:
    data = encode_command(b"PING", b"x" * 100)
    assert parse([data], limit=len(data)) == [[b"PING", b"x" * 100]]
    with pytest.raises(ProtocolError):
        parse([data], limit=len(data) - 1)


def test_a_line_without_an_end_is_refused_at_the_limit() -> None:
    parser = CommandParser(1000)
    parser.feed(b"P" * 999)
    assert parser.next() is None
    parser.feed(b"P")
    with pytest.raises(ProtocolError):
        parser.next()


def test_the_limit_may_be_raised_between_commands() -> None:
    parser = CommandParser()
    parser.feed(encode_command(b"AUTH", b"t") + encode_command(b"RUN", b"x" * 10_000))
    assert parser.next() == [b"AUTH", b"t"]
    parser.limit = LARGE
    assert parser.next() == [b"RUN", b"x" * 10_000]


def test_a_large_word_in_many_pieces_is_joined_once_it_is_whole() -> None:
    data = encode_command(b"RUN", bytes(range(256)) * 4000)
    assert parse([data[at : at + 1000] for at in range(0, len(data), 1000)], 2 * LARGE) == [
        [b"RUN", bytes(range(256)) * 4000]
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_browser_is_recognised_once_its_headers_ended(method: str) -> None:
    data = f"{method} /test.jpg?x HTTP/1.1\r\nHost: localhost:7460\r\nAccept: */*\r\n\r\n".encode()
    expected = [BrowserRequest(method, "/test.jpg?x")]
    assert parse([data]) == expected
    assert parse([bytes((byte,)) for byte in data]) == expected
    assert parse([data[:-1]]) == []


def test_headers_without_an_end_are_refused_at_the_limit() -> None:
    with pytest.raises(ProtocolError):
        parse([b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000], BEFORE_AUTHENTICATION)


@pytest.mark.parametrize(
    "line",
    [
        b"POST / HTTP/1.1",
        b"post /",
        b"OPTIONS * HTTP/1.0",
        b"PROPFIND / HTTP/1.1",
        b"Host: localhost",
        b"content-length: 5",
        b"PRI * HTTP/2.0",
        b"CONNECT x:1 HTTP/1.1",
    ],
)
@pytest.mark.parametrize("before", [b"", b"PING\r\n"])
def test_other_http_is_refused_wherever_it_comes(line: bytes, before: bytes) -> None:
    parser = CommandParser()
    parser.feed(before + line + b"\r\nRUN hello\r\n")
    if before:
        assert parser.next() == [b"PING"]
    with pytest.raises(ProtocolError, match="not HTTP"):
        parser.next()


def test_a_browser_cannot_come_later() -> None:
    parser = CommandParser()
    parser.feed(b"PING\r\nGET / HTTP/1.1\r\n\r\n")
    assert parser.next() == [b"PING"]
    with pytest.raises(ProtocolError, match="not HTTP"):
        parser.next()


def test_the_modules_of_the_protocol_do_no_input_or_output() -> None:
    import remoterun_socket.inline
    import remoterun_socket.protocol

    for module in (remoterun_socket.inline, remoterun_socket.protocol):
        imports = re.findall(r"^(?:from|import) (\w+)", inspect.getsource(module), re.MULTILINE)
        assert not set(imports) & {"socket", "asyncio", "threading", "logging", "select", "ssl"}
