"""A supervisor, told by the protocol of sd_notify(3), and the table of handed-over sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from remoterun import adopting
from remoterun.errors import Unavailable
from remoterun.supervised import Supervisor


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.setblocking(False)
        yield bound


def said(listening: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listening.recv(4096).decode())
        except BlockingIOError:
            return found


async def a_message(listening: socket.socket) -> None:
    """Wait for a message, and take all that there are."""
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listening, there.set)
    await asyncio.wait_for(there.wait(), 10)
    loop.remove_reader(listening)
    assert said(listening)


async def test_a_loop_that_hangs_gives_no_sign_of_life(listening: socket.socket) -> None:
    supervisor = Supervisor(str(listening.getsockname()), 0.02)
    supervisor.watch()
    assert said(listening) == ["WATCHDOG=1"]
    await a_message(listening)
    time.sleep(0.2)  # noqa: ASYNC251 - ten times the patience: this is a loop that hangs
    assert said(listening) == []
    await a_message(listening)
    supervisor.close()


async def test_without_a_supervisor_nothing_happens() -> None:
    environ = {"WATCHDOG_USEC": "1000"}
    supervisor = Supervisor.from_environment(environ)
    supervisor.watch()
    supervisor.ready("here")
    supervisor.stopping()
    supervisor.close()
    assert environ == {}


async def test_a_supervisor_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    supervisor = Supervisor(str(tmp_path / "nobody"), 1)
    supervisor.watch()
    supervisor.ready("here")
    supervisor.close()
    supervisor.stopping()


@pytest.mark.parametrize("address", ["vsock:2:1", "relative", ""])
def test_an_address_of_another_kind_is_nobody(address: str) -> None:
    environ = {"NOTIFY_SOCKET": address}
    Supervisor.from_environment(environ).ready("here")
    assert environ == {}


def table(**said: str) -> dict[str, tuple[int, ...]]:
    environ = {f"LISTEN_{name.upper()}": value for name, value in said.items()}
    adopting.take_over(environ)
    assert environ == {}
    found = dict(adopting._handed)
    adopting.take_over({})
    return found


@pytest.fixture
def three() -> Iterator[None]:
    """Keep the test's own process from marking descriptors that it does not own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "set_inheritable", lambda fd, inheritable: None)
        yield


@pytest.mark.usefixtures("three")
def test_names_of_descriptors() -> None:
    ours = str(os.getpid())
    assert table(pid=ours, fds="3", fdnames="http:resp:http") == {"http": (3, 5), "resp": (4,)}
    assert table(pid=ours, fds="2") == {"unknown": (3, 4)}
    assert table(pid=ours, fds="2", fdnames="http") == {"http": (3,), "unknown": (4,)}
    assert table(pid="1", fds="1", fdnames="http") == {}
    assert table(pid=ours, fds="many") == {}
    assert table() == {}


def test_what_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(Unavailable, match="it is no socket"):
        adopting.adopt(f"fd:{file.fileno()}", "http")
    with socket.socket() as deaf:
        number = os.dup(deaf.fileno())
        with pytest.raises(Unavailable, match="does not listen"):
            adopting.adopt(f"fd:{number}", "http")
