"""RPC under attack: objects that bite when touched, walks along attributes, every handler by hand, silence, floods."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import rpyc
from hypothesis import given
from hypothesis import strategies as st
from rpyc.core import consts

from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from remoterun_rpc.methods import DOCS
from tests.hostile.harness import (
    MIB,
    SCRIPTS,
    Growth,
    descriptors,
    dial,
    eventually,
    in_background,
    read_to_end,
    rss,
    sized,
)
from tests.hostile.rpc_raw import (
    EXCEPTION,
    OURS,
    REPLY,
    REQUEST,
    THEIRS,
    TUPLE,
    Raw,
    connected,
    message,
    request,
    value,
)
from tests.hostile.test_fuzz import GARBAGE, Clock

PATIENCE = 120  # seconds in which a stranger may prove something; where the tests are of that, the node is another
STALL = 2.0
UNREAD = 2 * MIB


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    rpc = {"stall": STALL, "unread": UNREAD}
    with running_node(SCRIPTS, auth_timeout=PATIENCE, rpc=rpc, limits={"output": "64MiB"}) as started:
        yield started
        assert "Traceback" not in started.log(), started.log()


@pytest.fixture(autouse=True)
def _the_node_is_well(node: RunningNode) -> Iterator[None]:
    yield
    with node.connect("rpyc") as client:
        assert client.run("hello", name="Ada") == {"hello": "Ada"}


@pytest.fixture
def connection(node: RunningNode) -> Iterator[Any]:
    host, _, port = node.urls["rpyc"].removeprefix("rpyc://").rpartition(":")
    with rpyc.connect(host, int(port), config={"sync_request_timeout": None, "allow_all_attrs": True}) as opened:
        opened.root.login(node.token)
        yield opened


def jobs(node: RunningNode) -> int:
    with node.connect() as client:
        return sum(1 for _ in client.jobs())


# -- what the caller gives by reference ---------------------------------------------------------------


class Trap:
    """Whatever is done with it is noted."""

    touched: ClassVar[list[str]] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "__name__", "____id_pack__", "__module__", "____conn__"):  # RPyC's own, here
            Trap.touched.append(name)
        return object.__getattribute__(self, name)

    def _noted(self, *_: Any) -> Any:
        Trap.touched.append("called")
        return self

    __call__ = __getitem__ = __iter__ = __next__ = __enter__ = __add__ = __radd__ = _noted

    def _noted_number(self) -> int:
        Trap.touched.append("asked for a number")
        return 1

    __len__ = __index__ = __int__ = __hash__ = _noted_number

    def _noted_text(self) -> str:
        Trap.touched.append("asked for a text")
        return "hello"

    __str__ = __repr__ = _noted_text

    def _noted_comparison(self, other: object) -> bool:
        Trap.touched.append("compared")
        return True

    __eq__ = __ne__ = __lt__ = __contains__ = _noted_comparison

    def __bool__(self) -> bool:
        Trap.touched.append("asked for its truth")
        return True


class Text(str):
    """A text that is none: RPyC passes it by reference."""

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "__name__", "____id_pack__", "__module__", "____conn__"):
            Trap.touched.append(name)
        return str.__getattribute__(self, name)


TRAPS: tuple[Any, ...] = (Trap(), Text("hello"), [], {}, {1}, bytearray(b"x"), Trap, type, object(), print, (Trap(), 1))


@pytest.mark.parametrize("name", [name for name in DOCS if name not in ("events", "open_artifact")])
def test_nothing_that_a_caller_gives_by_reference_is_touched(connection: Any, name: str) -> None:
    Trap.touched.clear()
    method = getattr(connection.root, name)
    for trap in TRAPS:
        for args, kwargs in (
            ((trap,), {}), (("hello", trap), {}), (("hello",), {"name": trap}), ((trap, trap), {"name": trap}),
            (("hello", "x", trap), {}),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="invalid: ") as raised:
                method(*args, **kwargs)
            assert raised.value.code == "invalid", raised.value  # type: ignore[attr-defined]
    assert Trap.touched == []
    assert connection._local_objects._dict == {}


def test_a_callback_is_called_and_nothing_else(connection: Any) -> None:
    job = connection.root.submit("hello")
    connection.root.wait(job)
    Trap.touched.clear()
    last = connection.root.events(job, Trap())
    assert Trap.touched == ["called"] * last
    assert connection._local_objects._dict == {}


# -- what a caller may want of the node ---------------------------------------------------------------

WALKS = (
    "__class__", "__globals__", "__code__", "__self__", "__func__", "__dict__", "__closure__", "__module__", "__init__",
    "__wrapped__", "__subclasses__", "__bases__", "__mro__", "__builtins__", "__reduce__", "__reduce_ex__", "_session",
    "exposed_run", "_local_root", "____conn__", "getmodule", "eval", "execute", "modules", "f_globals", "gi_frame",
)  # fmt: skip


def test_no_attribute_leads_anywhere(node: RunningNode) -> None:
    for token in (None, node.token):
        with contextlib.closing(connected(node, token)) as raw:
            kind, method = raw.ask(consts.HANDLE_GETATTR, raw.root, value("run"))
            assert kind == REPLY
            for target in (raw.root, (THEIRS, method[1])):
                for name in WALKS:
                    for plain in (name, name.encode()):
                        kind, body = raw.ask(consts.HANDLE_GETATTR, target, value(plain))
                        assert (kind, body[0]) == (EXCEPTION, ("builtins", "AttributeError"))
                    kind, body = raw.ask(consts.HANDLE_CALLATTR, target, value(name), value(()), value(()))
                    assert kind == EXCEPTION


def forged(raw: Raw) -> list[Any]:
    """Give boxes of every kind, forged references among them."""
    _, (_, name) = raw.ask(consts.HANDLE_GETATTR, raw.root, value("submit"))
    known = [raw.root, (THEIRS, name)]
    near = [(THEIRS, ("builtins.method", kind, number)) for kind in (0, 1, 2, 3) for number in (0, 1, 99, 2**63)]
    far = [(THEIRS, ("builtins.type", 0, 0)), (THEIRS, ("os", 1, 2)), (THEIRS, ("", -1, -1))]
    own = [(OURS, ("builtins.function", 1, 2)), (OURS, ("os.system", 0, 0)), (OURS, ("x" * 5000, 1, 1))]
    plain = [value(one) for one in (None, 0, "__class__", b"run", ("hello",), (("name", "x"),), ((1, 2),), ("a", 1, 2))]
    broken = [None, 5, (), (9, 1), (TUPLE, 1), (THEIRS, "x"), (OURS, (1, 2, 3)), (TUPLE, ((TUPLE, ()),))]
    return [*known, *near, *far, *own, *plain, *broken]


@pytest.mark.parametrize("proved", [False, True], ids=["stranger", "caller"])
def test_every_handler_by_hand(node: RunningNode, proved: bool, show: Callable[[str], None]) -> None:
    before, asked = jobs(node), 0
    with contextlib.closing(connected(node, node.token if proved else None)) as raw:
        boxes = forged(raw)
        rests = ((), (value("run"),), (value(()),), (value("__eq__"), value(1)), (value("run"), value(()), value(())))
        for handler in (*range(-1, 30), 2**40, "x", None, True, b"\7", (7,)):
            if handler == consts.HANDLE_CLOSE:
                continue
            for first, rest in itertools.product(boxes, rests):
                _check_harmless(handler, raw.ask(handler, first, *rest))
                asked += 1
    assert jobs(node) == before
    show(f"{asked} requests by hand: answered with plain values, methods or refusals")


def _check_harmless(handler: Any, answer: tuple[int, Any]) -> None:
    kind, body = answer
    if kind == REPLY and body[0] != consts.LABEL_VALUE:
        allowed = ("remoterun-node.Root", "builtins.method")
        assert handler == consts.HANDLE_PING or body[1][0] in allowed, (handler, body)
    if kind == EXCEPTION:
        assert body[0][0] == "builtins", body
        assert "remoterun_rpc" not in repr(body)


def test_what_nobody_asked_for_changes_nothing(node: RunningNode) -> None:
    """Answers to what the node never asked, numbers used twice, a hello from RPyC 5."""
    with contextlib.closing(connected(node, node.token)) as raw:
        for number in (0, 1, 2, 2**62):
            raw.send(message(REPLY, number, value(None)) + message(EXCEPTION, number, value(1)) * 2)
        raw.send(request(7, consts.HANDLE_PING, value("a")) + request(7, consts.HANDLE_PING, value("b")))
        assert [raw.receive(), raw.receive()] == [(REPLY, 7, value("a")), (REPLY, 7, value("b"))]
        raw.send(request(8, consts.HANDLE_DEL, raw.root, value(10**6)))
        assert raw.receive() == (REPLY, 8, value(None))
        assert raw.call("run", "hello")[0] == REPLY


ROOT = (THEIRS, ("remoterun-node.Root", 1, 1))
PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=20),
        st.sampled_from(("hello", "no/such", "../hello", "name", "script", "", "{}", '{"script": "hello"}', "nan")),
    ),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)  # fmt: skip
BOXES = st.recursive(
    st.one_of(
        PLAIN.map(value),
        st.tuples(st.sampled_from((OURS, THEIRS)), st.tuples(st.text(max_size=10), st.integers(), st.integers())),
        st.just(ROOT),
    ),
    lambda inner: st.lists(inner, max_size=4).map(lambda items: (TUPLE, tuple(items))),
    max_leaves=6,
)
NAMED = st.lists(st.tuples(st.one_of(st.sampled_from(("name", "job", "timeout")), PLAIN), PLAIN), max_size=3).map(tuple)
CALLS = st.builds(
    lambda method, args, kwargs: request(3, consts.HANDLE_CALLATTR, ROOT, value(method), args, value(kwargs)),
    st.sampled_from([name for name in DOCS if name != "login"]),
    st.one_of(st.lists(PLAIN, max_size=4).map(lambda items: value(tuple(items))), BOXES),
    NAMED,
)
REQUESTS = st.builds(
    lambda handler, boxes: request(3, handler, *boxes), st.integers(0, 22), st.lists(BOXES, max_size=4)
)
BYTES = st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda data: message(REQUEST, 3, data)))


@pytest.mark.parametrize("proved", [False, True], ids=["stranger", "caller"])
def test_garbage_over_rpc(node: RunningNode, proved: bool, show: Callable[[str], None]) -> None:
    clock, tried = Clock(), [0]
    before = jobs(node)
    token = node.token if proved else None

    @GARBAGE
    @given(st.lists(st.one_of(CALLS, CALLS, REQUESTS, BYTES), max_size=6).map(b"".join))
    def check(data: bytes) -> None:
        if clock.is_over:
            return
        tried[0] += 1
        raw = connected(node, token)
        with contextlib.closing(raw), contextlib.suppress(OSError, EOFError):
            raw.send(data + request(4, consts.HANDLE_CLOSE))
            while True:
                kind, number, body = raw.receive()
                assert kind in (REQUEST, REPLY, EXCEPTION)
                if kind == EXCEPTION:
                    assert body[0][0] == "builtins"
                    assert dict(body[2]).get("code") != "internal", (number, body)

    check()
    if not proved:
        assert jobs(node) == before
    show(f"{tried[0]} streams of garbage")


# -- silence, floods, slowness ------------------------------------------------------------------------


def test_who_proves_nothing_is_closed_whatever_it_says(place: Path) -> None:
    """A caller that pings, asks for the root and fails to log in is as silent as one that says nothing."""
    with running_node(SCRIPTS, data=place / "data", auth_timeout=1) as node, contextlib.ExitStack() as stack:
        silent = stack.enter_context(dial(node, "rpyc"))
        talks = stack.enter_context(contextlib.closing(connected(node)))
        eventually(lambda: not _is_served(talks), "the stranger's connection is closed")
        assert read_to_end(silent) == b""


def _is_served(raw: Raw) -> bool:
    try:
        assert raw.ask(consts.HANDLE_PING, value("x"))[0] == REPLY
        assert raw.call("login", "rr_wrong")[0] == EXCEPTION
    except (EOFError, OSError):
        return False
    return True


def test_little_is_held_for_a_stranger_that_does_not_read(place: Path, show: Callable[[str], None]) -> None:
    """Each asks for its own words again and again, as fast as they are taken, and reads no answer."""
    count = sized(4)
    words = request(1, consts.HANDLE_PING, value("x" * 8000)) * 8
    with running_node(SCRIPTS, data=place / "data", auth_timeout=PATIENCE) as node, contextlib.ExitStack() as stack:
        lines = [stack.enter_context(dial(node, "rpyc")) for _ in range(count)]
        for line in lines:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.settimeout(2)
        with Growth(node.pid) as growth:
            for line in lines:
                with pytest.raises(TimeoutError):  # the node reads no more of it
                    _send_again_and_again(line, words)
    assert growth.most <= 4 * MIB + count * 64 * 1024, f"{growth.most / MIB:.1f} MiB"
    show(f"{count} strangers that read no answer: the node grew by {growth.most / MIB:.1f} MiB")


def _send_again_and_again(line: socket.socket, data: bytes) -> None:
    for _ in range(64 * MIB // len(data)):
        line.sendall(data)


def test_idle_connections_cost_little_and_no_thread(place: Path, show: Callable[[str], None]) -> None:
    count = sized(1000)
    with running_node(SCRIPTS, data=place / "data") as node, contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(connected(node, node.token)))
        before, threads = rss(node.pid), _threads(node.pid)
        for _ in range(count):
            stack.enter_context(contextlib.closing(connected(node, node.token)))
        with node.connect("rpyc") as client:
            for _ in range(sized(200)):
                assert client.run("hello") == {"hello": "world"}
        assert descriptors(node.pid) > count
        assert _threads(node.pid) <= threads + 4  # those of the node's own pool, which jobs use
        each = (rss(node.pid) - before) / count
        assert each < 32 * 1024
    show(f"{count} idle connections over RPC, {each / 1024:.1f} KiB each, no thread")


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_strangers_make_room_for_callers(place: Path) -> None:
    with running_node(SCRIPTS, data=place / "data", rpc={"connections": 5}) as node, contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(dial(node, "rpyc")) for _ in range(20)]
        proved = [stack.enter_context(contextlib.closing(connected(node, node.token))) for _ in range(5)]
        for line in strangers:
            assert read_to_end(line) == b""
        with pytest.raises(EOFError):  # five callers are all that there is room for
            connected(node, node.token)
        assert [raw.call("run", "hello")[0] for raw in proved] == [REPLY] * 5
        proved[0].close()
        eventually(lambda: _can_connect(node), "there is room again")


def _can_connect(node: RunningNode) -> bool:
    try:
        with contextlib.closing(connected(node, node.token)) as raw:
            return bool(raw.call("run", "hello")[0] == REPLY)
    except (EOFError, OSError):
        return False


def test_a_bomb_of_a_callers_is_refused(node: RunningNode) -> None:
    with contextlib.closing(connected(node, node.token)) as raw, Growth(node.pid) as growth:
        body = (consts.HANDLE_PING, (TUPLE, (value("x" * 2**27),)))
        raw.send(message(REQUEST, 99, body, compressed=True))
        kind, number, raised = raw.receive()
        assert (kind, number, dict(raised[2])["code"]) == (EXCEPTION, 99, "too_large")
        assert raw.call("run", "hello")[0] == REPLY
    assert growth.most < 32 * MIB


@pytest.mark.parametrize("mode", ["unread", "unanswered"])
def test_who_takes_no_events_is_bounded_and_cut_off(
    node: RunningNode, place: Path, mode: str, show: Callable[[str], None]
) -> None:
    """One reads nothing at all; the other reads, and its callback never returns."""
    slow, gate = sized(5), place / "gate"
    with node.connect() as client, contextlib.ExitStack() as stack:
        job = client.submit("floods", gate=str(gate), lines=800, width=60_000)
        before = descriptors(node.pid)
        followers = [stack.enter_context(contextlib.closing(connected(node, node.token))) for _ in range(slow)]
        callback = (OURS, ("builtins.function", 1, 1))
        for raw in followers:
            args = (TUPLE, (value(job.id), callback))
            raw.send(request(500, consts.HANDLE_CALLATTR, ROOT, value("events"), args, value(())))
        seen: list[bytes] = []

        def read(raw: Raw) -> None:
            seen.append(read_to_end(raw.line))

        readers = [lambda raw=raw: read(raw) for raw in followers] if mode == "unanswered" else []
        with Growth(node.pid) as growth, in_background(*readers):
            gate.touch()
            assert job.wait(60).state is State.SUCCEEDED
            eventually(lambda: descriptors(node.pid) <= before, "they are cut off")
            assert client.run("hello") == {"hello": "world"}
        if mode == "unread":
            seen = [read_to_end(raw.line) for raw in followers]
        bound = slow * 2 * UNREAD + 32 * MIB
        assert growth.most <= bound, f"the node grew by {growth.most / MIB:.0f} MiB for {slow} slow readers"
        for text in seen:
            assert len(text) < 2 * UNREAD
            if mode == "unanswered":
                numbers = [int(number) for number in re.findall(rb'"n":(\d+)', text)]
                hint = re.search(rb"resume with events\(\S+ callback, (\d+)\)", text)
                assert hint is not None, text[-500:]
                assert numbers == list(range(1, int(hint[1]) + 1))
        rest = list(client.session.events(job.id, 5))
        assert [event.n for event in rest] == list(range(6, 6 + len(rest)))
    show(f"{slow} callers that took no events ({mode}): the node grew by {growth.most / MIB:.0f} MiB")


def test_a_slow_callback_loses_nothing(node: RunningNode, connection: Any, place: Path) -> None:
    gate = place / "gate"
    gate.touch()
    job = connection.root.submit("floods", gate=str(gate), lines=100, width=60_000)
    seen: list[int] = []

    def slow(text: str) -> None:
        seen.append(json.loads(text)["n"])
        time.sleep(0.01)

    last = connection.root.events(job, slow)
    assert seen == list(range(1, last + 1))
