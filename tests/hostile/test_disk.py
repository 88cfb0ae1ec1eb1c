"""A disk that is full: nothing is accepted that is not kept, and work goes on once there is room."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remoterun.errors import Busy, JobFailed, ServiceError, Unavailable
from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from tests.hostile.harness import SCRIPTS, eventually, fork_servers, in_background, is_sound, sized

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and os.environ.get("CI") != "true", reason="only root may mount a file system"
)


@pytest.fixture
def disk(place: Path) -> Iterator[Path]:
    """Give a file system of a few MiB."""
    folder = place / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


class Load:
    """Callers that submit until they are told to stop."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self.stop = threading.Event()
        self.acknowledged: set[str] = set()
        self.refusals: Counter[str] = Counter()
        self.internal: list[str] = []

    def await_refusals(self, count: int) -> None:
        eventually(lambda: self.refusals.total() > count, "calls are refused")

    def await_served(self, count: int) -> None:
        eventually(lambda: len(self.acknowledged) > count, "jobs are accepted", 60)

    def call(self, wire: str) -> None:
        with self._node.connect(wire) as client:
            while not self.stop.is_set():
                try:
                    self.acknowledged.add(client.submit("hello", name="x" * 2000).id)
                    client.run("noted_fork", journal=os.devnull)
                except Unavailable as refusal:
                    self.refusals[refusal.message] += 1
                    time.sleep(0.02)
                except Busy:
                    time.sleep(0.05)
                except JobFailed as failure:
                    self.internal.append(str(failure))
                except ServiceError as failure:
                    self.internal.append(f"{failure.code}: {failure.message}")


def _fill(disk: Path) -> None:
    """Take what room there is, and then what is given back."""
    with open(disk / "filler", "ab", buffering=0) as filler:
        for size in (65536, 4096, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def _free(disk: Path) -> None:
    (disk / "filler").unlink(missing_ok=True)


def _check_after_kill(node: RunningNode, load: Load) -> None:
    """Kill the node and look whether all that it acknowledged is there."""
    node.kill()
    node.start()
    with node.connect() as client:
        jobs = {job.id: job for job in client.jobs()}
        assert load.acknowledged <= jobs.keys(), "acknowledged and gone"
        for job_id in load.acknowledged:
            assert client.session.wait(job_id, 60).state in (State.SUCCEEDED, State.LOST)
    assert node.stop() == 0
    assert is_sound(node.data)


@pytest.mark.timeout(240)
def test_full_disk(disk: Path, place: Path, show: Callable[[str], None]) -> None:
    rounds = sized(3)
    with running_node(SCRIPTS, data=disk / "data", workers=2) as node:
        load = Load(node)
        servers = fork_servers(node)
        with in_background(*(lambda wire=wire: load.call(wire) for wire in ("tcp", "unix", "http", "rpyc", "zmq"))):
            try:
                for _ in range(rounds):
                    before = load.refusals.total()
                    _fill(disk)
                    load.await_refusals(before + 20)
                    served = len(load.acknowledged)
                    _free(disk)
                    load.await_served(served + 50)
            finally:
                load.stop.set()
        assert fork_servers(node) == servers, "the fork server has lived through it"
        assert all("disk is full" in text for text in load.refusals), load.refusals
        assert load.internal == []
        _check_after_kill(node, load)
    show(f"{rounds} times full: {load.refusals.total()} refusals, {len(load.acknowledged)} jobs acknowledged and there")


def test_killed_while_the_disk_is_full(disk: Path, show: Callable[[str], None]) -> None:
    with running_node(SCRIPTS, data=disk / "data", workers=2) as node:
        load = Load(node)
        with in_background(*(lambda wire=wire: load.call(wire) for wire in ("tcp", "unix"))):
            load.await_served(50)
            _fill(disk)
            load.await_refusals(20)
            load.stop.set()
        node.kill()
        _free(disk)
        node.start()
        with node.connect() as client:
            assert load.acknowledged <= {job.id for job in client.jobs()}
    show(f"killed on a full disk: {len(load.acknowledged)} acknowledged jobs are there")
