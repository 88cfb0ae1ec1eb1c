"""Jobs that take more than their share end with a reason that names the limit; the node hardly notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from remoterun.messages import Job, OutputEvent, ProgressEvent
from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from tests.hostile.harness import MIB, SCRIPTS, Growth, eventually, in_background, sized, strays, zombies_below

GROWTH = 64 * MIB


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node(SCRIPTS, workers=4, cancel_grace="300ms", limits={"output_stop": "256MiB"}) as started:
        with started.connect() as client:
            assert client.run("hello") == {"hello": "world"}
        yield started


@contextmanager
def unimpressed(node: RunningNode) -> Iterator[None]:
    """Hold a node to its promises while something hostile runs: it serves others, and stays small."""
    ended = threading.Event()
    served: list[Any] = []

    def call() -> None:
        with node.connect("http") as client:
            while not (ended.is_set() and served):
                served.append(client.run("hello"))
                ended.wait(0.02)

    with Growth(node.pid) as growth, in_background(call):
        try:
            yield
        finally:
            ended.set()
    assert growth.most <= GROWTH, f"the node grew by {growth.most / MIB:.1f} MiB"
    assert served
    assert all(answer == {"hello": "world"} for answer in served)
    eventually(lambda: strays(node) == [], "no process of the job is left")
    eventually(lambda: zombies_below(node.pid) == [], "no zombie is left")


def run(node: RunningNode, script: str, what: str, **options: Any) -> Job:
    """Run something hostile to its end."""
    with unimpressed(node), node.connect() as client:
        return client.submit(script, what=what, **options).wait(60)


def ended_by(job: Job) -> str:
    """Give the reason for which a job failed."""
    assert job.state is State.FAILED, job
    assert job.error is not None
    return f"{job.error.type}: {job.error.message}"


@pytest.mark.parametrize("what", ["growing", "at_once", "many", "shared"])
def test_memory(node: RunningNode, what: str, show: Callable[[str], None]) -> None:
    reason = ended_by(run(node, "hog_memory", what))
    assert "memory = 61.0 MiB" in reason
    show(reason)


@pytest.mark.parametrize("what", ["bomb", "sessions", "threads"])
def test_processes(node: RunningNode, what: str, show: Callable[[str], None]) -> None:
    reason = ended_by(run(node, "hog_processes", what))
    assert "processes = 50" in reason
    show(reason)


def test_file_size(node: RunningNode) -> None:
    reason = ended_by(run(node, "hog_files", "file_size"))
    assert "file_size = " in reason


def test_open_files(node: RunningNode) -> None:
    reason = ended_by(run(node, "hog_files", "open_files"))
    assert "files = 64" in reason


@pytest.mark.parametrize("both", [False, True], ids=["stdout", "alternating"])
def test_output(node: RunningNode, both: bool, show: Callable[[str], None]) -> None:
    job = run(node, "hog", "flood", most=sized(1024) * MIB, both=both)
    assert "limits.output_stop = 256 MiB" in ended_by(job)
    assert job.output.cut
    with node.connect() as client:
        kept = sum(len(event.raw()) for event in client.session.events(job.id) if isinstance(event, OutputEvent))
    assert kept == 16 * MIB
    show(f"{job.output.bytes / MIB:.0f} MiB written, {kept / MIB:.0f} MiB kept")


def test_output_within_the_default_limit(place: Path, show: Callable[[str], None]) -> None:
    with running_node(SCRIPTS, data=place / "data") as node:
        with node.connect() as client:
            client.run("hello")
        job = run(node, "hog", "flood", most=3072 * MIB)
        assert "limits.output_stop = 1 GiB" in ended_by(job)
        show(f"{job.output.bytes / MIB:.0f} MiB of 3 GiB written")


def test_progress(node: RunningNode, show: Callable[[str], None]) -> None:
    count = sized(100_000)
    job = run(node, "hog", "progress", most=count)
    assert job.state is State.SUCCEEDED, job
    assert job.progress is not None
    assert job.progress.done == count
    with node.connect() as client:
        events = [event for event in client.session.events(job.id) if isinstance(event, ProgressEvent)]
    assert events[-1].done == count
    assert len(events) < count
    show(f"{count} lines of progress became {len(events)} events")


def test_progress_that_is_none(node: RunningNode) -> None:
    assert run(node, "hog", "progress_garbage").state is State.SUCCEEDED


def test_many_artifacts(node: RunningNode, show: Callable[[str], None]) -> None:
    count = sized(100_000)
    job = run(node, "hog", "artifacts", most=count)
    assert job.state is State.SUCCEEDED, job
    assert len(job.artifacts) == 1000
    assert "limits.artifact_count" in _stderr(node, job)
    show(f"{count} artifacts, 1000 kept")


def test_an_artifact_larger_than_may_be(node: RunningNode) -> None:
    job = run(node, "hog", "sparse")
    assert job.artifacts == ()
    assert "limits.artifacts" in _stderr(node, job)


@pytest.mark.parametrize("script", ["hog", "hog_spawn", "hog_warm"])
def test_artifacts_that_are_no_files(node: RunningNode, script: str, place: Path) -> None:
    outside = place / "outside"
    outside.write_text("not to be had")
    job = run(node, script, "odd_artifacts", outside=str(outside))
    assert job.state is State.SUCCEEDED, job
    assert {artifact.name for artifact in job.artifacts} <= {"good.txt", " ", "-rf", "a" * 255}
    with node.connect() as client:
        assert client.session.open_artifact(job.id, "good.txt").read() == b"good"
    assert outside.read_text() == "not to be had"


def _stderr(node: RunningNode, job: Job) -> str:
    with node.connect() as client:
        events = [event for event in client.session.events(job.id) if isinstance(event, OutputEvent)]
    return b"".join(event.raw() for event in events if event.stream == "stderr").decode()


@pytest.mark.parametrize("script", ["hog", "hog_spawn", "hog_warm"])
class TestResults:
    def test_of_the_largest_size(self, node: RunningNode, script: str) -> None:
        for _ in range(sized(5)):
            job = run(node, script, "large_result")
            assert job.state is State.SUCCEEDED, job
            assert len(job.result) == 4 * MIB - 100

    def test_beyond(self, node: RunningNode, script: str) -> None:
        assert "limits.result = " in ended_by(run(node, script, "giant_result"))

    @pytest.mark.parametrize("what", ["nan_result", "surrogate_result", "surrogate_key_result", "deep_result"])
    def test_that_are_no_json(self, node: RunningNode, script: str, what: str) -> None:
        assert ended_by(run(node, script, what)).startswith("ResultError: ")


@pytest.mark.parametrize("script", ["hog", "hog_spawn", "hog_warm"])
@pytest.mark.parametrize(
    "what",
    [
        "garbage_reply",
        "giant_claim",
        "endless_frame",
        "empty_frames",
        "closed_control",
        "shut_control",
        "forged_reply",
        "exit_at_once",
        "killed",
        "segfault",
    ],
)
def test_broken_worker(node: RunningNode, script: str, what: str) -> None:
    with unimpressed(node), node.connect() as client:
        timeout = 1.0 if what == "shut_control" else None
        job = client.script(script, timeout=timeout).submit(what=what).wait(30)
    assert job.has_ended, job
    if what not in ("forged_reply", "closed_control", "empty_frames"):
        assert job.state in (State.FAILED, State.TIMED_OUT), job
        assert job.error is not None or job.exit_code == 7
    with node.connect() as client:
        assert client.run(script, what="look")["threads"] == 1


CLEAN = {"threads": 1, "cwd": "work", "left": None, "path": True, "term": True, "alarm": 0.0, "mask": True}


@pytest.mark.parametrize(
    "what",
    [
        "leak_thread",
        "leak_child",
        "leak_folder",
        "leak_environment",
        "leak_closed_stdout",
        "leak_other_stdout",
        "leak_python_stdout",
        "leak_signals",
        "leak_alarm",
        "leak_umask",
        "exit_at_once",
    ],
)
def test_the_next_call_has_a_clean_worker(node: RunningNode, what: str) -> None:
    run(node, "hog_warm", what)
    with node.connect() as client:
        handle = client.submit("hog_warm", what="look")
        seen = handle.result()
        assert handle.output() == b"seen\n"
    assert seen.pop("pid")
    assert seen == CLEAN


def test_a_warm_worker_that_leaks_nothing_stays(node: RunningNode) -> None:
    with node.connect() as client:
        assert len({client.run("hog_warm", what="look")["pid"] for _ in range(20)}) == 1
