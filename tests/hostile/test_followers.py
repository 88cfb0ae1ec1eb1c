"""Many followers see the same; those that do not read cost little, and can go on where they were cut off."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from remoterun.messages import StateEvent
from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from remoterun_socket.protocol import NOTHING, ReplyReader
from tests.hostile.harness import MIB, SCRIPTS, Growth, address, descriptors, dial, eventually, read_to_end, resp, sized

STALL = 3  # seconds after which a reader of nothing is given up
BUFFER = 8 * MIB  # of one slow reader, at most


@pytest.fixture(autouse=True, scope="module")
def _descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(SCRIPTS, workers=4, socket={"stall": STALL}, limits={"output": "64MiB"}) as started:
        yield started


async def _follow(node: RunningNode, job_id: str, ready: asyncio.Semaphore) -> tuple[int, str, bytes]:
    """Follow a job over RESP3; give how many events there were, their digest, and the last one."""
    host, port = address(node.urls["tcp"])
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(resp("HELLO", "3", "AUTH", "default", node.token) + resp("EVENTS", job_id))
    replies, digest, count, last = ReplyReader(), hashlib.sha256(), 0, b""
    while data := await reader.read(65536):
        replies.feed(data)
        while (reply := replies.next()) is not NOTHING:
            kind = reply[0] if isinstance(reply, list) else None
            if kind == b"event":
                payload = reply[1]
                count += 1
                assert json.loads(payload)["n"] == count, "the events have gaps"
                digest.update(payload)
                last = payload
                if count == 1:
                    ready.release()
            elif kind == b"end":
                writer.close()
                return count, digest.hexdigest(), last
    raise AssertionError(f"cut off after {count} events")


async def test_followers_see_the_same(node: RunningNode, place: Path, show: Callable[[str], None]) -> None:
    followers, gate = sized(1000), place / "gate"
    with node.connect() as client:
        job = client.submit("floods", gate=str(gate), lines=200, pause=0.005)
        ready = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(_follow(node, job.id, ready)) for _ in range(followers)]
        for _ in tasks:
            await ready.acquire()
        gate.touch()
        seen = await asyncio.gather(*tasks)
        assert await asyncio.to_thread(job.wait) is not None
    assert len(set(seen)) == 1
    count, _, last = seen[0]
    assert json.loads(last)["final"] is True
    show(f"{followers} followers saw the same {count} events")


def test_readers_that_do_not_read_are_cut_off(node: RunningNode, place: Path, show: Callable[[str], None]) -> None:
    slow, gate = sized(5), place / "gate"
    with node.connect() as client:
        job = client.submit("floods", gate=str(gate), lines=800, width=60_000)
        request = resp("HELLO", "3", "AUTH", "default", node.token) + resp("EVENTS", job.id)
        before = descriptors(node.pid) + slow  # with the streams, which are cut off later
        lines = [_mute(node, "tcp", request) for _ in range(slow)]
        streams = [_mute(node, "http", _get(node, f"/jobs/{job.id}/events")) for _ in range(slow)]
        with Growth(node.pid) as growth:
            gate.touch()
            assert job.wait(60).state is State.SUCCEEDED
            eventually(lambda: descriptors(node.pid) <= before, "the readers of nothing are cut off")
            assert client.run("hello") == {"hello": "world"}
    for line in (*lines, *streams):
        line.close()
    bound = 2 * slow * BUFFER + 32 * MIB
    assert growth.most <= bound, f"the node grew by {growth.most / MIB:.0f} MiB for {2 * slow} slow readers"
    _check_late_reader(node, job.id)
    _check_resumed_stream(node, job.id)
    show(
        f"{2 * slow} readers of nothing, the node grew by {growth.most / MIB:.0f} MiB; resumed where they were cut off"
    )


def _mute(node: RunningNode, scheme: str, request: bytes) -> socket.socket:
    """Ask for something and do not read it."""
    line = dial(node, scheme)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.sendall(request)
    return line


def _get(node: RunningNode, path: str) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {node.token}\r\n"
    return f"{head}Accept: text/event-stream\r\n\r\n".encode()


def _check_late_reader(node: RunningNode, job_id: str) -> None:
    """Read once the node has given up: the last thing that it says is from where to go on."""
    for patience in (1.5, 1.2, 1.8):  # between one stall, when it gives up, and two, when it cuts the connection
        request = resp("HELLO", "3", "AUTH", "default", node.token) + resp("EVENTS", job_id)
        with dial(node, "tcp") as line:
            line.sendall(request)
            time.sleep(STALL * patience)
            text = read_to_end(line)
        if (hint := re.search(rb"resume with EVENTS \S+ AFTER (\d+)", text)) is not None:
            break
    else:
        raise AssertionError(f"nothing says from where to resume: {text[-300:]!r}")
    numbers = [int(number) for number in re.findall(rb'"n":(\d+)', text)]
    assert numbers == list(range(1, int(hint[1]) + 1))
    with node.connect() as client:
        rest = list(client.session.events(job_id, int(hint[1])))
    assert [event.n for event in rest] == list(range(int(hint[1]) + 1, int(hint[1]) + 1 + len(rest)))
    assert isinstance(rest[-1], StateEvent)
    assert rest[-1].final


def _check_resumed_stream(node: RunningNode, job_id: str) -> None:
    headers = {"Authorization": f"Bearer {node.token}", "Last-Event-ID": "5", "Accept": "text/event-stream"}
    text = httpx2.get(f"{node.urls['http']}/jobs/{job_id}/events", headers=headers, timeout=60).text
    ids = [int(number) for number in re.findall(r"^id: (\d+)$", text, re.MULTILINE)]
    assert ids == list(range(6, 6 + len(ids)))
    assert '"final":true' in text
