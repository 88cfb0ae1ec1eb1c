"""Frames and messages of RPC: any split gives the same, no claim is believed, and references stay three values."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rpyc.core import brine as theirs
from rpyc.core import consts
from rpyc.core.channel import Channel

from remoterun.errors import BY_CODE, Internal
from remoterun.messages import FieldError
from remoterun_rpc import failures, protocol
from remoterun_rpc.brine import BrineError
from remoterun_rpc.frames import MOST_SKIPPED, FrameReader, TooLong
from remoterun_rpc.methods import DOCS
from remoterun_rpc.objects import ROOT, Answer, Invoke, Objects, Refused
from remoterun_rpc.protocol import (
    HEADER,
    REPLY,
    REQUEST,
    Handler,
    Message,
    ProtocolError,
    Reference,
)

LIMIT = 8192
OBJECTS = Objects(DOCS)
METHOD = OBJECTS.ask(Handler.GETATTR, (ROOT, "run"))


def frame(payload: bytes, compressed: bool = False) -> bytes:
    return HEADER.pack(len(payload), compressed) + payload + b"\n"


def message(number: int, body: Any, kind: int = REQUEST) -> bytes:
    encoded: bytes = theirs.dump((number, body))
    return bytes((kind,)) + encoded


def read_all(data: bytes, limit: int = LIMIT, skips: bool = False) -> list[Message | TooLong]:
    reader = FrameReader(limit, skips)
    reader.feed(data)
    return list(iter(reader.next, None))


def bodies(found: list[Message | TooLong]) -> list[tuple[int, int, Any]]:
    return [(one.kind, one.number, one.body() if isinstance(one, Message) else TooLong) for one in found]


def test_the_numbers_are_those_of_rpyc() -> None:
    assert {handler.name: int(handler) for handler in Handler} == {
        name.removeprefix("HANDLE_"): value for name, value in vars(consts).items() if name.startswith("HANDLE_")
    }
    assert (protocol.REQUEST, protocol.REPLY, protocol.EXCEPTION) == (
        consts.MSG_REQUEST, consts.MSG_REPLY, consts.MSG_EXCEPTION,
    )  # fmt: skip
    assert HEADER.format == Channel.FRAME_HEADER.format
    assert protocol.END == Channel.FLUSHER


@given(st.lists(st.tuples(st.integers(0, 2**40), st.text(max_size=30), st.booleans()), max_size=5), st.data())
def test_any_split_gives_the_same(sent: list[tuple[int, str, bool]], data: st.DataObject) -> None:
    stream = b""
    for number, text, compressed in sent:
        payload = message(number, text)
        stream += frame(zlib.compress(payload) if compressed else payload, compressed)
    whole = bodies(read_all(stream))
    assert whole == [(REQUEST, number, text) for number, text, _ in sent]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, split = FrameReader(LIMIT, skips=False), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        split += bodies(list(iter(reader.next, None)))
    assert split == whole
    assert reader.held == 0


@given(st.binary(max_size=200), st.booleans())
def test_garbage_raises_only_the_declared_error(data: bytes, framed: bool) -> None:
    try:
        for one in read_all(frame(data) if framed else data):
            assert isinstance(one, Message)
            one.request()
    except (ProtocolError, BrineError):
        pass


@pytest.mark.parametrize("claim", [LIMIT + 1, 2**20, 2**31, 2**32 - 1])
@pytest.mark.parametrize("compressed", [0, 1])
def test_a_claim_beyond_the_limit_ends_it_at_once(claim: int, compressed: int) -> None:
    with pytest.raises(ProtocolError):
        read_all(HEADER.pack(claim, compressed))


@pytest.mark.parametrize("skips", [False, True])
def test_a_bomb_is_not_unpacked(skips: bool) -> None:
    payload = message(7, b"\0" * 2**26)
    bomb = frame(zlib.compress(payload, 9), compressed=True)
    assert len(bomb) < 2**17
    if not skips:
        with pytest.raises(ProtocolError):
            read_all(bomb, len(bomb))
    else:
        assert read_all(bomb, 2**20, skips=True) == [TooLong(REQUEST, 7)]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("size", [LIMIT, 50_000, 10**6])
def test_what_is_too_long_is_passed_over_and_named(size: int, compressed: bool) -> None:
    text = "".join(chr(33 + (n * n) % 90) for n in range(size * (3 if compressed else 1)))
    payload = message(12345, text)
    packed = zlib.compress(payload, 1) if compressed else payload
    stream = frame(packed, compressed) + frame(message(12346, "next"))
    for step in (len(stream), 1000):
        reader, found = FrameReader(LIMIT, skips=True), []
        for start in range(0, len(stream), step):
            reader.feed(stream[start : start + step])
            found += bodies(list(iter(reader.next, None)))
            assert reader.held <= LIMIT + step
        assert found == [(REQUEST, 12345, TooLong), (REQUEST, 12346, "next")]


def test_there_is_an_end_to_what_is_passed_over() -> None:
    with pytest.raises(ProtocolError):
        read_all(HEADER.pack(MOST_SKIPPED + 1, 0) + message(1, "x") * 200, skips=True)


@pytest.mark.parametrize("packed", [b"garbage", zlib.compress(message(1, "x"))[:-6], b""])
def test_what_is_not_compressed_as_it_says_ends_it(packed: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_all(frame(packed, compressed=True))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01",
        message(1, "x", kind=0),
        message(1, "x", kind=4),
        message(-1, "x"),
        message(2**63, "x"),
        b"\x01" + theirs.dump((True, "x")),
        b"\x01" + theirs.dump((1.0, "x")),
        b"\x01" + theirs.dump((1, 2, 3)),
        b"\x01" + theirs.dump(1),
    ],
)
def test_what_is_no_message_ends_it(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_all(frame(payload))


REFERENCES = st.builds(
    Reference, st.tuples(st.text(max_size=20), st.integers(0, 2**64), st.integers(0, 2**64)), st.booleans()
)
UNBOXED = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=5), REFERENCES),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=10,
)


@given(UNBOXED)
def test_boxes_are_seen_alike_from_both_sides(value: Any) -> None:
    assert protocol.unbox(protocol.box(value)) == mirrored(value)


def mirrored(value: Any) -> Any:
    if isinstance(value, Reference):
        return Reference(value.id_pack, not value.is_ours)
    return tuple(map(mirrored, value)) if isinstance(value, tuple) else value


@given(UNBOXED)
def test_a_value_that_holds_references_of_the_others_says_so(value: Any) -> None:
    found = protocol.references(value)
    assert all(isinstance(one, Reference) and not one.is_ours for one in found)
    assert bool(found) == ("is_ours=False" in repr(value))


@pytest.mark.parametrize(
    "boxed",
    [
        None, 1, (), (1,), (0, 1), (5, 1), (2, 1), (2, ((1, 2), 3)), (3, 1), (4, ("x", 1)), (4, (1, 2, 3)),
        (4, ("x", "y", 3)), (3, (("x", 1, 1), 2)), ("1", 2), (1, 2, 3),
    ],
)  # fmt: skip
def test_what_says_not_how_it_crosses_is_refused(boxed: Any) -> None:
    with pytest.raises(BrineError):
        protocol.unbox(boxed)


# -- the objects -------------------------------------------------------------------------------------


def method(name: str = "run") -> Reference:
    answer = OBJECTS.ask(Handler.GETATTR, (ROOT, name))
    assert isinstance(answer, Answer)
    assert isinstance(answer.value, Reference)
    return answer.value


ATTRIBUTES = (
    "__class__", "__globals__", "__code__", "__self__", "__func__", "__dict__", "__closure__", "__module__", "__mro__",
    "__subclasses__", "__init__", "__getattribute__", "__reduce_ex__", "__call__", "_session", "exposed_run", "modules",
    "execute", "eval", "getmodule", "getconn", "namespace", "builtin", "", "run.login", "on_connect",
    "get_service_name", "____conn__",
)  # fmt: skip


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_there_is_nothing_but_methods(name: str) -> None:
    for target in (ROOT, method()):
        for wanted in (name, name.encode()):
            outcome = OBJECTS.ask(Handler.GETATTR, (target, wanted))
            assert isinstance(outcome, Refused)
            assert outcome.exception[0] == ("builtins", "AttributeError")  # type: ignore[index]
        assert isinstance(OBJECTS.ask(Handler.CALLATTR, (target, name, (), ())), Refused)
        assert isinstance(OBJECTS.ask(Handler.SETATTR, (target, name, 1)), Refused)
        assert isinstance(OBJECTS.ask(Handler.DELATTR, (target, name)), Refused)


def test_every_method_is_there_and_described() -> None:
    for name, doc in DOCS.items():
        assert OBJECTS.ask(Handler.GETATTR, (method(name), "__doc__")) == Answer(doc)
        assert OBJECTS.ask(Handler.CALL, (method(name), ("x",), ())) == Invoke(name, ("x",), ())
        assert OBJECTS.ask(Handler.CALLATTR, (ROOT, name, ("x",))) == Invoke(name, ("x",), ())
    assert OBJECTS.ask(Handler.DIR, (ROOT,)) == Answer(tuple(DOCS))


ARGUMENTS = st.lists(st.one_of(UNBOXED, st.sampled_from((ROOT, method())), st.sampled_from(ATTRIBUTES)), max_size=4)


@given(st.one_of(st.sampled_from(Handler), st.integers(), st.text(max_size=3), st.none()), ARGUMENTS.map(tuple))
def test_no_request_gives_anything_but_plain_values_and_methods(handler: Any, arguments: tuple[Any, ...]) -> None:
    outcome = OBJECTS.ask(handler, arguments)
    if isinstance(outcome, Answer):
        ours = [one for one in _all(outcome.value) if isinstance(one, Reference) and one.is_ours]
        echoed = _all(arguments)
        assert all(one in echoed or one == ROOT or one.id_pack in OBJECTS._names for one in ours)


def _all(value: Any) -> list[Any]:
    return [found for item in value for found in _all(item)] if isinstance(value, tuple) else [value]


# -- what is raised ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", BY_CODE)
def test_every_error_crosses_whole(code: str) -> None:
    error = BY_CODE[code]("no: \u2713", fields=[FieldError("a.0", "bad")], retry_after=1.5)
    found = failures.service_error(failures.refused(error))
    assert type(found) is type(error)
    assert (found.message, found.fields, found.retry_after) == (error.message, error.fields, error.retry_after)


@given(st.one_of(UNBOXED, st.tuples(st.tuples(st.text(), st.text()), UNBOXED, UNBOXED, st.text())))
def test_what_others_raise_is_internal(body: Any) -> None:
    assert type(failures.service_error(body)) is Internal


def test_an_error_of_a_class_is_a_class_of_python() -> None:
    import builtins

    assert set(failures.CLASSES) == set(BY_CODE)
    for name in failures.CLASSES.values():
        assert issubclass(getattr(builtins, name), Exception)
        assert not issubclass(getattr(builtins, name), (EOFError, TimeoutError))  # RPyC takes those for its own


def test_replies_are_read_by_rpyc() -> None:
    (found,) = read_all(protocol.reply(5, ("a", 1)))
    assert bodies([found]) == [(REPLY, 5, (1, ("a", 1)))]
