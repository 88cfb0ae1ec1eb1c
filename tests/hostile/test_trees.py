"""Cancel, and let time out, trees of processes that do not want to end: nothing of them is left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from remoterun.client import JobHandle
from remoterun.messages import OutputEvent
from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from tests.hostile.harness import (
    SCRIPTS,
    children_of,
    descriptors,
    eventually,
    fork_servers,
    sized,
    strays,
    zombies_below,
)
from tests.processes import lives

KINDS = ("plain", "session", "daemon", "deaf", "pipes", "respawning", "chain", "stopped", "bare", "writing")
ISOLATIONS = ("fork", "spawn", "warm")
AHEAD = 4  # workers that wait forked


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(SCRIPTS, workers=4, cancel_grace="300ms") as started:
        with started.connect() as client:
            client.run("hello")
        yield started


class Baseline:
    """What a quiet node holds."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self._server = fork_servers(node)[0]
        self._node_open = descriptors(node.pid)
        self._server_open = descriptors(self._server)

    def await_again(self) -> None:
        """Wait until the node holds no more than it did; a few more workers may wait for work."""
        node = self._node
        eventually(lambda: strays(node) == [], "no process of a job is left")
        eventually(lambda: zombies_below(node.pid) == [], "no zombie is left")
        eventually(lambda: descriptors(self._server) <= self._server_open, "the fork server closed what it opened")
        idle = 4 * (AHEAD + 4)  # each worker that waits has four
        eventually(lambda: descriptors(node.pid) <= self._node_open + idle, "the node closed what it opened")
        eventually(lambda: len(self._job_folders()) <= len(children_of(self._server)), "the folders of jobs are gone")

    def _job_folders(self) -> list[str]:
        """List the folders of workers, but for emptied ones that wait for the next worker."""
        folders = self._node.data / "run" / str(self._node.pid)
        return [folder.name for folder in folders.iterdir() if not _is_spare(folder)]


def _is_spare(folder: Path) -> bool:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == {"artifacts", "work"}


def _is_gone(pid: int) -> bool:
    return not lives(pid)


def _end(handle: JobHandle, how: str, pids: Path) -> State:
    if how != "timed_out":
        for event in handle.events():  # once its tree stands
            if isinstance(event, OutputEvent):
                break
    if how == "cancelled":
        handle.cancel()
    state = handle.wait().state
    for pid in map(int, pids.read_text().split()):
        eventually(partial(_is_gone, pid), f"process {pid} of {handle.job.script} ends", 5)
    return state


def _call(node: RunningNode, isolation: str, kind: str, how: str, pids: Path) -> None:
    ends = how == "succeeded"
    with node.connect() as client:
        timeout = 1.0 if how == "timed_out" else None
        bound = client.script(f"tree_{isolation}", timeout=timeout)
        handle = bound.submit(kind=kind, pids=str(pids), ends=ends)
        state = _end(handle, how, pids)
        if kind == "stopped" and how == "succeeded":
            return
        assert state == how, (kind, isolation, handle.job)


@pytest.mark.timeout(300)
def test_nothing_is_left_of_a_tree(node: RunningNode, place: Path, show: Callable[[str], None]) -> None:
    baseline = Baseline(node)
    ends = ("cancelled", "timed_out", "succeeded")
    every = [case for case in itertools.product(ISOLATIONS, KINDS, ends) if case[1:] != ("stopped", "succeeded")]
    cases = list(itertools.islice(itertools.cycle(every), max(len(every), sized(100))))

    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(_call, node, *case, place / str(number)) for number, case in enumerate(cases)]
    for call in calls:
        call.result()

    baseline.await_again()
    show(
        f"{len(cases)} ends of trees ({len(KINDS)} kinds, {len(ISOLATIONS)} isolations):"
        " no process, zombie, descriptor or folder left"
    )
