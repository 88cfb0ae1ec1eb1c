"""Scripts' own environments while they are built: who waits, who does not, what is left of a build that ended early."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remoterun.errors import JobFailed, ServiceError, Unavailable
from remoterun.messages import Job, JobError, JobQuery, JobRequest, ProgressEvent, StateEvent
from remoterun.service import Session
from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from remoterun.workers import system
from tests.integration.packages import OFFLINE, Package, gated_package, script, write_wheel
from tests.processes import lives, parent_of

VALUE = "import gated\n\ndef main() -> int:\n    return gated.VALUE\n"
LATE = "import remoterun_late\n\ndef main() -> int:\n    return remoterun_late.VALUE\n"
LIMIT = 90.0  # seconds that anything may take on a machine that is busy


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Package]:
    package = gated_package(tmp_path)
    yield package
    package.gate.touch()


@pytest.fixture
def scripts(tmp_path: Path, package: Package) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "value.py").write_text(script([package.requirement], VALUE))
    (folder / "add.py").write_text("def main(a: int, b: int) -> int:\n    return a + b\n")
    return folder


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def until_built(session: Session, job_id: str, package: Package) -> None:
    """Wait until a job has been told that packages are installed for it, and until that goes on."""
    following = session.events(job_id)
    assert any(isinstance(event, ProgressEvent) and "installing" in (event.message or "") for event in following)
    following.close()  # type: ignore[attr-defined]
    until(package.count, "the package's build never began")


def environments(node: RunningNode) -> list[str]:
    return sorted(path.name for path in (node.data / "environments").iterdir() if path.is_dir())


def error_of(job: Job) -> JobError:
    assert job.error is not None
    return job.error


def test_the_first_call_waits_with_progress_and_the_next_one_does_not(scripts: Path, package: Package) -> None:
    with running_node(scripts, env=OFFLINE) as node, node.connect() as client:
        session = client.session
        job = session.submit(JobRequest(script="value"))
        until_built(session, job.id, package)
        waiting = session.get_job(job.id)
        assert waiting.state is State.QUEUED
        assert waiting.progress is not None
        assert waiting.progress.message == "installing 1 package"
        assert session.info().load.queued == 1
        assert client.run("add", a=1, b=2) == 3  # others go on meanwhile
        package.gate.touch()
        ended = session.wait(job.id, LIMIT)
        assert (ended.state, ended.result, ended.progress, ended.attempt) == (State.SUCCEEDED, 1, None, 1)
        kinds = [
            event.state if isinstance(event, StateEvent) else event.message
            for event in session.events(job.id)
            if isinstance(event, (StateEvent, ProgressEvent))
        ]
        assert kinds[0] == State.QUEUED
        assert kinds[-4:] == ["resolving dependencies", "installing 1 package", State.RUNNING, State.SUCCEEDED]
        again = client.submit("value")
        assert again.wait().result == 1
        assert not [event for event in again.events() if isinstance(event, ProgressEvent)]
        assert package.count() == 1


def test_a_hundred_first_calls_build_one_environment(scripts: Path, package: Package) -> None:
    with running_node(scripts, env=OFFLINE, workers=4) as node, node.connect() as client:
        session = client.session
        first = session.submit(JobRequest(script="value"))
        with ThreadPoolExecutor(20) as pool:
            calls = [pool.submit(lambda: node_run(node)) for _ in range(100)]
            until_built(session, first.id, package)
            until(lambda: session.info().load.queued >= 20, "the calls do not wait")
            package.gate.touch()
            assert [call.result(LIMIT) for call in calls] == [1] * 100
        assert package.count() == 1
        assert len(environments(node)) == 1


def node_run(node: RunningNode) -> object:
    with node.connect() as client:
        return client.run("value")


def test_waiting_jobs_are_bounded_like_others(scripts: Path, package: Package) -> None:
    with running_node(scripts, env=OFFLINE, queue=3) as node, node.connect() as client:
        for _ in range(3):
            client.submit("value")
        with pytest.raises(Exception, match="3 jobs are waiting already"):
            client.submit("value")
        assert client.run("add", a=1, b=2) == 3


def test_a_waiting_job_can_be_cancelled(scripts: Path, package: Package) -> None:
    with running_node(scripts, env=OFFLINE) as node, node.connect() as client:
        job, other = client.submit("value"), client.submit("value")
        until_built(client.session, job.id, package)
        assert client.session.cancel(job.id).state is State.CANCELLED
        package.gate.touch()
        assert other.wait().result == 1
        assert client.session.get_job(job.id).state is State.CANCELLED


def test_kill_during_a_build_leaves_nothing_half_built_in_use(scripts: Path, package: Package) -> None:
    with running_node(scripts, env=OFFLINE) as node:
        with node.connect() as client:
            job = client.submit("value")
            until_built(client.session, job.id, package)
        calling = threading.Thread(target=run_in_vain, args=[node])
        calling.start()
        with node.connect() as client:
            until(lambda: client.info().load.queued == 2, "the second call does not wait")
        node.kill()
        calling.join(LIMIT)
        assert all(name.startswith(".part-") for name in environments(node))
        until(lambda: gone(package), "the build goes on without its node")
        node.restart()
        with node.connect() as client:
            session = client.session
            until(lambda: package.count() == 2, "the queued job does not have it built again")
            assert session.get_job(job.id).state is State.QUEUED
            package.gate.touch()
            ended = session.wait(job.id, LIMIT)
            assert (ended.state, ended.result, ended.attempt) == (State.SUCCEEDED, 1, 1)
            jobs = session.list_jobs(JobQuery()).jobs
            assert [known.id for known in jobs] == [job.id]  # the call that was only `run` was never accepted
        assert [len(name) for name in environments(node)] == [32]  # one, and no scraps


def run_in_vain(node: RunningNode) -> None:
    with node.connect() as client, contextlib.suppress(ServiceError):
        client.run("value")


def gone(package: Package) -> bool:
    """Whether the builds are dead; those that only uv waited for end by themselves once the gate is there."""
    return not [pid for pid in package.pids() for parent in [parent_of(pid)] if is_uv(parent)]


def all_gone(package: Package) -> bool:
    return not [pid for pid in package.pids() if lives(pid)]


def is_uv(pid: int) -> bool:
    try:
        return not system.is_zombie(pid) and b"uv" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False


def test_a_stopping_node_keeps_what_waits_and_stops_the_build(scripts: Path, package: Package) -> None:
    with running_node(scripts, env=OFFLINE, grace="1s") as node:
        with node.connect() as client, ThreadPoolExecutor(1) as pool:
            job = client.submit("value")
            until_built(client.session, job.id, package)
            call = pool.submit(lambda: node_run(node))
            until(lambda: client.info().load.queued == 2, "the second call does not wait")
            node.terminate()
            with pytest.raises(Unavailable):
                call.result(LIMIT)
        assert node.process is not None
        assert node.process.wait(LIMIT) == 0
        assert not [pid for pid in package.pids() if not system.is_zombie(pid)]
        package.gate.touch()
        node.restart()
        with node.connect() as client:
            assert client.session.wait(job.id, LIMIT).result == 1


def test_a_build_that_takes_too_long_fails_its_jobs(scripts: Path, package: Package) -> None:
    settings = {"timeout": "2s", "retry": "1h"}
    with running_node(scripts, env=OFFLINE, environments=settings) as node, node.connect() as client:
        job = client.submit("value").wait()
        assert (job.state, error_of(job).type) == (State.FAILED, "EnvironmentFailed")
        assert "took longer than 2 s (environments.timeout)" in error_of(job).message
        assert "took longer" in (client.describe("value").broken or "")
        until(lambda: all_gone(package), "the build goes on, or its processes are not reaped")
        assert client.run("add", a=1, b=2) == 3


def test_what_cannot_be_resolved_is_said_and_tried_again_later(tmp_path: Path, scripts: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (scripts / "late.py").write_text(script(["remoterun-late"], LATE))
    env = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels)}
    with running_node(scripts, env=env, environments={"retry": "1h"}) as node, node.connect() as client:
        with pytest.raises(JobFailed, match=r"EnvironmentFailed: No solution found .*remoterun-late"):
            client.run("late")
        for _ in range(3):
            with pytest.raises(Unavailable, match=r"late cannot be called: late.py:2: No solution found"):
                client.run("late")
        assert "remoterun-late was not found" in (client.describe("late").broken or "")
        assert node.log().count("the environment of late.py failed") == 1
        assert client.run("add", a=1, b=2) == 3
    with running_node(scripts, env=env, environments={"retry": "1s"}) as node, node.connect() as client:
        with pytest.raises(JobFailed):
            client.run("late")
        write_wheel(wheels, "remoterun_late", "1.0", "VALUE = 5\n")
        until(lambda: client.describe("late").broken is None, "it is not tried again")
        assert client.run("late") == 5


def test_two_nodes_share_a_folder_and_build_once(tmp_path: Path, scripts: Path, package: Package) -> None:
    shared = {"folder": str(tmp_path / "shared")}
    with (
        running_node(scripts, env=OFFLINE, environments=shared) as one,
        running_node(scripts, env=OFFLINE, environments=shared) as two,
        one.connect() as first,
        two.connect() as second,
    ):
        jobs = [client.submit("value") for client in (first, second)]
        until(package.count, "nobody builds it")
        for client, job in zip((first, second), jobs, strict=True):
            following = client.session.events(job.id)
            assert any(isinstance(event, ProgressEvent) for event in following)
            following.close()  # type: ignore[attr-defined]
        package.gate.touch()
        assert [job.wait().result for job in jobs] == [1, 1]
        assert package.count() == 1


def test_garbage_in_the_folder_is_built_anew(scripts: Path, package: Package) -> None:
    package.gate.touch()
    with running_node(scripts, env=OFFLINE) as node:
        with node.connect() as client:
            assert client.run("value") == 1
        (home,) = (node.data / "environments").glob("[0-9a-f]*[0-9a-f]")
        for spoil in (spoil_marker, spoil_interpreter, spoil_everything):
            node.stop()
            spoil(home)
            (node.data / "environments" / "0123").mkdir(exist_ok=True)
            node.restart()
            with node.connect() as client:
                assert client.run("value") == 1


def spoil_marker(home: Path) -> None:
    (home / "remoterun.json").write_bytes(b"\0" * 100)


def spoil_interpreter(home: Path) -> None:
    python = home / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")


def spoil_everything(home: Path) -> None:
    home.rename(home.with_name("moved"))
    home.write_text("a file")


def test_an_interpreter_that_goes_away_is_noticed_while_the_node_runs(scripts: Path, package: Package) -> None:
    package.gate.touch()
    with running_node(scripts, env=OFFLINE) as node, node.connect() as client:
        assert client.run("value") == 1
        (home,) = (node.data / "environments").glob("[0-9a-f]*[0-9a-f]")
        spoil_interpreter(home)
        assert client.run("value") == 1
        assert home.joinpath("bin/python").exists()


def test_environments_are_built_at_the_start_if_wanted(scripts: Path, package: Package) -> None:
    package.gate.touch()
    with running_node(scripts, env=OFFLINE, environments={"build": "at-start"}) as node, node.connect() as client:
        until(lambda: "built the environment of value.py" in node.log(), "it is not built ahead")
        (scripts / "more.py").write_text(script([package.requirement, "gated"], VALUE))
        until(lambda: "built the environment of more.py" in node.log(), "a new script's is not built ahead")
        job = client.submit("more")
        assert job.wait().result == 1
        assert not [event for event in job.events() if isinstance(event, ProgressEvent)]


def test_old_environments_are_removed(scripts: Path, package: Package) -> None:
    package.gate.touch()
    with running_node(scripts, env=OFFLINE, environments={"keep": "2s"}) as node, node.connect() as client:
        assert client.run("value") == 1
        (kept,) = environments(node)
        (scripts / "other.py").write_text(script([package.requirement, "gated>0"], VALUE))
        assert client.run("other") == 1
        assert len(environments(node)) == 2
        (scripts / "other.py").unlink()
        until(lambda: environments(node) == [kept], "it is not removed")
        assert client.run("value") == 1


def test_parameters_that_only_its_packages_tell_are_described_there(tmp_path: Path, scripts: Path) -> None:
    code = "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n    y: int\n"
    shapes = gated_package(tmp_path, "shapes", code)
    shapes.gate.touch()
    text = "from shapes import Point\n\ndef main(point: Point) -> int:\n    return point.x + point.y\n"
    (scripts / "shape.py").write_text(script([shapes.requirement], text))
    with running_node(scripts, env=OFFLINE) as node, node.connect() as client:
        assert client.run("shape", point={"x": 1, "y": 2}) == 3
        with pytest.raises(Exception, match="bad parameters") as caught:
            client.run("shape", point={"x": 1})
        assert [field.field for field in caught.value.fields] == ["point.y"]  # type: ignore[attr-defined]
        assert "Point" in str(client.describe("shape").parameters)


@pytest.mark.parametrize("isolation", ["spawn", "fork", "warm"])
def test_every_isolation_runs_in_its_environment(
    tmp_path: Path, scripts: Path, package: Package, isolation: str
) -> None:
    package.gate.touch()
    code = """\
        import subprocess
        import sys
        from datetime import date

        import gated
        from remoterun import script

        def main(day: date) -> list[object]:
            script.progress(1, 1)
            code = "import gated, sys; from remoterun import script; print(sys.prefix)"
            inner = subprocess.run(["python", "-c", code], capture_output=True, text=True, check=True).stdout.strip()
            return [gated.VALUE, day.year, sys.prefix == inner, "environments" in sys.prefix, "msgspec" in sys.modules]
        """
    (scripts / "inside.py").write_text(script([package.requirement], code, isolation=f'"{isolation}"'))
    with running_node(scripts, env=OFFLINE) as node, node.connect() as client:
        for _ in range(2):
            assert client.run("inside", day="2026-11-26") == [1, 2026, True, True, False]
