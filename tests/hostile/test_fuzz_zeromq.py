"""Garbage at the ports of ZeroMQ: frames and messages that nobody in their senses would send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from remoterun.testing import RunningNode, running_node
from tests.hostile.harness import SCRIPTS, sized
from tests.integration.zeromq_sockets import answer, ask, bare, endpoint, frame, opened, pull_endpoint

GARBAGE = settings(
    max_examples=sized(200),
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
OPS = ["run", "submit", "info", "events", "open_artifact", "wait", "credit", "list_jobs", "cancel", "no such", "", None]
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
NAMES = [
    "script",
    "params",
    "args",
    "stdin",
    "timeout",
    "key",
    "job",
    "name",
    "after",
    "n",
    "credit",
    "limit",
    "trace",
    "x",
]
MESSAGES = st.builds(
    lambda op, request_id, fields: ({} if op is None else {"op": op}) | {"id": request_id} | fields,
    st.sampled_from(OPS),
    st.one_of(st.text(max_size=5), st.integers(), VALUES),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4),
)
BODIES = st.one_of(MESSAGES.map(lambda message: json.dumps(message).encode()), st.binary(max_size=60))
FRAMES = st.one_of(
    BODIES.map(lambda body: [body]),
    BODIES.map(lambda body: [b"", body]),
    st.lists(st.binary(max_size=20), min_size=1, max_size=20),
)
BYTES = st.one_of(
    st.binary(max_size=100),
    st.builds(
        lambda flags, size, data: bytes([flags, size]) + data,
        st.integers(0, 255),
        st.integers(0, 255),
        st.binary(max_size=60),
    ),
)


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(SCRIPTS, auth_timeout=2, workers=2) as started:
        yield started
        assert "Traceback" not in started.log(), started.log()


@pytest.mark.parametrize("proved", [False, True], ids=["stranger", "caller"])
def test_messages(node: RunningNode, proved: bool, show: Any) -> None:
    tried = 0
    with opened(zmq.DEALER, endpoint(node)) as dealer:

        @GARBAGE
        @given(frames=FRAMES)
        def check(frames: list[bytes]) -> None:
            nonlocal tried
            tried += 1
            if proved and frames[-1].startswith(b"{"):
                frames = [*frames[:-1], with_token(frames[-1], node.token)]
            dealer.send_multipart(frames)
            dealer.send_json({"op": "info", "id": f"after {tried}", "token": node.token})
            while (answered := answer(dealer)).get("id") != f"after {tried}":
                code = answered.get("error", {}).get("code")
                assert code != "internal", answered
                assert proved or code in ("invalid", "unauthenticated"), answered

        check()
    show(f"{tried} messages of garbage to a ROUTER")


def with_token(body: bytes, token: str) -> bytes:
    try:
        message = json.loads(body)
    except ValueError:
        return body
    return json.dumps(message | {"token": token}).encode() if isinstance(message, dict) else body


def test_publications(node: RunningNode, show: Any) -> None:
    tried = 0
    with opened(zmq.PUSH, pull_endpoint(node)) as push, opened(zmq.REQ, endpoint(node)) as req:

        @GARBAGE
        @given(frames=FRAMES)
        def check(frames: list[bytes]) -> None:
            nonlocal tried
            tried += 1
            push.send_multipart(frames)

        check()
        assert ask(req, op="info", token=node.token)["ok"] is True
    with node.connect() as client:
        assert not list(client.jobs())
    show(f"{tried} publications of garbage to a PULL: no job")


def test_bytes(node: RunningNode, show: Any) -> None:
    """Given bytes after a sound handshake, the connection is closed or waits for more; others are served."""
    tried = 0
    with opened(zmq.REQ, endpoint(node)) as req:

        @GARBAGE
        @given(pieces=st.lists(BYTES, max_size=5), greeted=st.booleans())
        def check(pieces: list[bytes], greeted: bool) -> None:
            nonlocal tried
            tried += 1
            for address in (endpoint(node), pull_endpoint(node)):
                with bare(address, greeted=greeted) as line:
                    try:
                        line.sendall(b"".join(pieces) + frame(b"{}"))
                    except ConnectionError:
                        continue
            assert ask(req, op="info", token=node.token)["ok"] is True

        check()
    show(f"{tried} streams of garbage at the ports of ZeroMQ")
