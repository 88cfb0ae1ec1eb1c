"""Connections that say nothing, too little, too slowly, too much, or something else altogether."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rpyc.core import brine, consts

from remoterun.testing import RunningNode, running_node
from tests.hostile.harness import (
    MIB,
    SCRIPTS,
    Growth,
    address,
    descriptors,
    dial,
    eventually,
    in_background,
    read_to_end,
    resp,
    rss,
    sized,
)
from tests.hostile.rpc_raw import THEIRS, framed, message, request, value

AUTH_TIMEOUT = 2.0
PORTS = ("tcp", "unix", "http", "rpyc")


@pytest.fixture(autouse=True, scope="module")
def _descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))  # a node that we start inherits it
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(SCRIPTS, auth_timeout=AUTH_TIMEOUT) as started:
        yield started


@pytest.fixture(autouse=True)
def _nothing_runs(node: RunningNode) -> Iterator[None]:
    with node.connect() as client:
        before = client.info().counters
    yield
    with node.connect() as client:
        after = client.info().counters
    others = {name: count for name, count in after.items() if name.startswith("jobs_") and name != "jobs_succeeded"}
    assert others == {name: count for name, count in before.items() if name in others}


def test_idle_connections(place: Path, show: Callable[[str], None]) -> None:
    count = sized(2000)
    with running_node(SCRIPTS, data=place / "data") as node, contextlib.ExitStack() as stack:
        before = rss(node.pid)
        for _ in range(count):
            line = stack.enter_context(dial(node, "tcp"))
            line.sendall(resp("AUTH", node.token))
        with node.connect("tcp") as client:
            for _ in range(sized(200)):
                assert client.run("hello") == {"hello": "world"}
        assert descriptors(node.pid) > count
        each = (rss(node.pid) - before) / count
        assert each < 32 * 1024
    show(f"{count} idle connections, {each / 1024:.1f} KiB each, an honest caller was served {sized(200)} times")


TLS_HELLO = bytes.fromhex(
    "16030100c8010000c40303" + "11" * 32 + "20" + "22" * 32 + "0022130113031302c02bc02fcca9cca8c02cc030"
)
AMQP = b"AMQP\x00\x00\x09\x01"
ZMTP = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + bytes(48)
SSH = b"SSH-2.0-OpenSSH_9.2\r\n"

FOREIGN = {
    "silence": b"",
    "half a TLS hello": TLS_HELLO[:20],
    "TLS hello": TLS_HELLO,
    "AMQP": AMQP,
    "ZMTP": ZMTP,
    "SSH": SSH,
    "zeros": bytes(4096),
    "a line without an end": b"x" * 4096,
}
TO_RESP = {
    "half a header": b"*2\r\n$4\r\nAU",
    "a claim of items": b"*1000000000\r\n",
    "a claim of bytes": b"*1\r\n$999999999\r\n",
    "a claim beyond 64 bits": b"*1\r\n$99999999999999999999\r\n",
    "negative items": b"*-5\r\n",
    "negative bytes": b"*1\r\n$-2\r\nx\r\n",
    "a null word": b"*1\r\n$-1\r\n",
    "nested arrays": b"*1\r\n" * 1000,
    "no number": b"*x\r\n",
    "an HTTP post": b"POST /run/hello HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\nRUN hello name=Eve\r\n\r\n",
    "an HTTP put": b"PUT / HTTP/1.1\r\n\r\nRUN hello\r\n",
    "commands without AUTH": resp("RUN", "hello") + resp("SUBMIT", "hello") + resp("SCRIPTS"),
    "a wrong token": resp("AUTH", "rr_wrong") + resp("RUN", "hello"),
    "quotes without an end": b'RUN "hello\r\n',
}
TO_HTTP = {
    "half a head": b"GET /scripts HTTP/1.1\r\nHost: local",
    "a head without an end": b"GET / HTTP/1.1\r\n" + b"X-Y: z\r\n" * 400,
    "no token": b"POST /run/hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    "half a body": b"POST /run/hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
    "half a chunk": b"POST /run/hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{",
    "two lengths": b"POST /run/hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "length and chunks": b"POST /run/hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"POST /run/hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "a huge length": b"POST /run/hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "RESP": resp("AUTH", "rr_wrong") + resp("RUN", "hello"),
    "inline": b"RUN hello name=Eve\r\n",
    "a huge header": b"GET / HTTP/1.1\r\nX: " + b"y" * 30_000,
    "an upgrade": b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
}
_ROOT = (THEIRS, ("remoterun-node.Root", 1, 1))
TO_RPC = {
    "half a frame": framed(b"\1" + bytes(100))[:50],
    "a claim of 2 GiB": b"\x7f\xff\xff\xff\0",
    "a claim of 9 KiB": b"\0\0\x23\x28\0" + bytes(9000),
    "a bomb": message(1, 1, (1, value("x" * 2**22)), compressed=True),
    "calls without a login": b"".join(
        request(number, consts.HANDLE_CALLATTR, _ROOT, value(method), value(("hello",)), value(()))
        for number, method in enumerate(("run", "submit", "call", "list_scripts", "info", "events"))
    ),
    "a wrong token": request(1, consts.HANDLE_CALLATTR, _ROOT, value("login"), value(("rr_wrong",)), value(())),
    "no brine": framed(b"\1" + b"\xff" * 40),
    "nested": framed(b"\1" + b"\x10" * 5000 + b"\0"),
    "an answer": message(2, 1, value("hello")),
    "a kind that is none": message(9, 1, value("hello")),
    "RPyC 5": framed(brine.dump((1, 1, (consts.HANDLE_GETROOT, value(()))))),
    "an HTTP post": TO_RESP["an HTTP post"],
    "RESP": resp("AUTH", "rr_wrong") + resp("RUN", "hello"),
}
CASES = [
    *((port, name, data) for port in PORTS[:1] for name, data in (FOREIGN | TO_RESP).items()),
    *(("http", name, data) for name, data in (FOREIGN | TO_HTTP).items()),
    *(("rpyc", name, data) for name, data in (FOREIGN | TO_RPC).items()),
]


def _jobs(node: RunningNode) -> int:
    with node.connect() as client:
        return sum(1 for _ in client.jobs())


def test_what_is_no_call_runs_nothing_and_is_closed(node: RunningNode, show: Callable[[str], None]) -> None:
    before = _jobs(node)
    lines = []
    for port, name, data in CASES:
        line = dial(node, port)
        with contextlib.suppress(ConnectionError):
            line.sendall(data)
        lines.append((port, name, line))
    answers = {}
    for port, name, line in lines:
        try:
            answers[port, name] = read_to_end(line)
        except TimeoutError:
            pytest.fail(f"{port}: the connection is not closed: {name}")
        line.close()
    assert _jobs(node) == before
    for (port, name), answer in answers.items():
        assert b'"hello"' not in answer, (port, name, answer)
        assert b" 5" not in answer[:15], (port, name, answer)
        assert b"Traceback" not in answer
    show(f"{len(CASES)} kinds of bytes that are no call: nothing ran, each connection was closed")


@pytest.mark.parametrize("port", ["tcp", "http", "rpyc"])
def test_slow_callers_are_closed(node: RunningNode, port: str, show: Callable[[str], None]) -> None:
    """Send one byte at a time for as long as the node takes it, and meanwhile serve an honest caller."""
    count = sized(500)
    data = {
        "tcp": resp("PING") * 1000,
        "http": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000,
        "rpyc": request(1, consts.HANDLE_PING, value("x")) * 1000,
    }[port]
    lines = [dial(node, port) for _ in range(count)]
    for line in lines:
        line.setblocking(False)

    def drip() -> None:
        open_lines, position = list(lines), 0
        deadline = time.monotonic() + 60
        while open_lines:
            assert time.monotonic() < deadline, f"{len(open_lines)} slow callers are still connected"
            open_lines = [line for line in open_lines if _drips(line, data[position : position + 1])]
            position += 1
            time.sleep(0.05)

    with in_background(drip), node.connect(port) as client:
        for _ in range(20):
            assert client.run("hello") == {"hello": "world"}
    for line in lines:
        line.close()
    show(f"{count} callers that send a byte at a time were closed")


def _drips(line: socket.socket, byte: bytes) -> bool:
    """Send a byte; False once the node has closed the connection."""
    try:
        line.send(byte)
        return line.recv(65536) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _await_closed(line: socket.socket) -> None:
    eventually(lambda: not _drips(line, b"x"), "a caller that proves nothing is closed")


@pytest.mark.parametrize("port", PORTS[:1] + PORTS[2:])
def test_little_is_held_for_who_has_not_proved_anything(
    node: RunningNode, port: str, show: Callable[[str], None]
) -> None:
    count = sized(300)
    head = {
        "tcp": b"*2\r\n$4\r\nAUTH\r\n$1048000\r\n",
        "http": b"POST /run/hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048000\r\n\r\n",
        "rpyc": b"\0\x0f\xfd\xc0\0",
    }[port]
    data = head + bytes(MIB)
    with Growth(node.pid) as growth, contextlib.ExitStack() as stack:
        lines = [stack.enter_context(dial(node, port)) for _ in range(count)]
        for line in lines:
            line.setblocking(False)
            with contextlib.suppress(OSError):
                line.send(data)
        for line in lines:
            _await_closed(line)
    assert growth.most <= 8 * MIB + count * 16 * 1024, f"{growth.most / MIB:.1f} MiB"
    show(
        f"{count} connections that sent up to 1 MiB each without a token: the node grew by {growth.most / MIB:.1f} MiB"
    )


def test_strangers_that_ask_and_do_not_read_hold_little(node: RunningNode, show: Callable[[str], None]) -> None:
    count, asked = sized(20), 0
    with Growth(node.pid) as growth, contextlib.ExitStack() as stack:
        lines = [stack.enter_context(_narrow(address(node.urls["tcp"]))) for _ in range(count)]
        quiet = 0
        while quiet < 20:  # 0.2 s in which the node took nothing more
            taken = sum(_send_some(line) for line in lines)
            asked, quiet = asked + taken, 0 if taken else quiet + 1
            time.sleep(0.01)
    assert growth.most <= 8 * MIB, f"{growth.most / MIB:.1f} MiB"
    show(f"{count} strangers sent {asked / MIB:.1f} MiB of commands: the node grew by {growth.most / MIB:.1f} MiB")


def _narrow(place: tuple[str, int]) -> socket.socket:
    """Connect with room for little: what is not read stays with the other side."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(place)
    line.setblocking(False)
    return line


def _send_some(line: socket.socket) -> int:
    try:
        return line.send(b"PING\r\n" * 10_000)
    except OSError:  # full, or closed
        return 0


def test_connections_are_gone_afterwards(node: RunningNode) -> None:
    for _ in range(sized(500)):
        with socket.create_connection(address(node.urls["tcp"])):
            pass
        with socket.create_connection(address(node.urls["http"])):
            pass
        with socket.create_connection(address(node.urls["rpyc"])):
            pass
    eventually(lambda: descriptors(node.pid) < 100, "the node closes what its callers closed")
