"""How jobs end, on every wire: failures, timeouts, cancelling."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remoterun.messages import Job, StateEvent
from remoterun.service import Session
from remoterun.states import State
from tests.contract.wires import Wire, all_events, call, eventually, states, stream, wait_for_output
from tests.processes import lives


def _failed(job: Job, error_type: str, message: str, exit_code: int) -> str:
    assert job.state is State.FAILED
    assert job.has_ended
    assert job.ended is not None
    assert job.result is None
    assert job.error is not None
    assert (job.error.type, job.exit_code) == (error_type, exit_code)
    assert message in job.error.message
    return job.error.traceback or ""


def test_an_exception_is_told_with_its_traceback(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("fails", {"how": "raise"}))
    trace = _failed(job, "OwnError", "no such thing — ✗", 1)
    assert "fails.py" in trace
    assert 'raise OwnError("no such thing — ✗")' in trace
    assert "remoterun/workers" not in trace
    events = all_events(session, job.id)
    assert stream(events) == b"about to fail\n"
    assert "OwnError: no such thing — ✗" in stream(events, "stderr").decode()
    assert session.get_job(job.id) == job


@pytest.mark.parametrize(
    ("how", "error_type", "message", "exit_code"),
    [
        ("exit", "SystemExit", "7", 7),
        ("exit text", "SystemExit", "gone wrong", 1),
        ("signal", "Signal", "9", -9),
        ("unserialisable", "ResultError", "object", 1),
    ],
)
def test_other_failures_say_what_they_are(wire: Wire, how: str, error_type: str, message: str, exit_code: int) -> None:
    _failed(wire.session("ada").run(call("fails", {"how": how})), error_type, message, exit_code)


def test_a_process_that_exits_by_itself_fails_by_its_code(wire: Wire) -> None:
    job = wire.session("ada").run(call("fails", {"how": "os exit"}))
    assert (job.state, job.exit_code, job.result) == (State.FAILED, 9, None)


def test_exit_code_zero_is_success(wire: Wire) -> None:
    job = wire.session("ada").run(call("fails", {"how": "exit zero"}))
    assert (job.state, job.exit_code, job.result, job.error) == (State.SUCCEEDED, 0, None, None)


@pytest.mark.parametrize("code", [1, 3, 125, 255])
def test_a_plain_script_fails_by_its_exit_code(wire: Wire, code: int) -> None:
    session = wire.session("ada")
    job = session.run(call("plain_fails", args=(str(code),)))
    assert (job.state, job.exit_code) == (State.FAILED, code)
    assert stream(all_events(session, job.id)) == b"plain and failing\n"


def test_a_script_ends_at_its_own_timeout(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("hurried"))
    assert job.state is State.TIMED_OUT
    assert job.error is not None
    assert job.error.type == "Timeout"
    assert "0.3 s" in job.error.message
    assert stream(all_events(session, job.id)) == b"started\n"


def test_a_caller_may_shorten_the_timeout(wire: Wire) -> None:
    job = wire.session("ada").run(call("sleeps", timeout=0.2))
    assert job.state is State.TIMED_OUT
    assert job.error is not None
    assert "0.2 s" in job.error.message


def test_a_caller_may_not_lengthen_the_timeout(wire: Wire) -> None:
    job = wire.session("ada").run(call("hurried", timeout=60.0))
    assert job.state is State.TIMED_OUT
    assert job.error is not None
    assert "0.3 s" in job.error.message


def test_a_running_job_is_cancelled(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.submit(call("sleeps"))
    wait_for_output(session, job.id, "started")
    cancelled = session.cancel(job.id)
    assert (cancelled.id, cancelled.state) == (job.id, State.CANCELLED)
    assert states(all_events(session, job.id)) == ["queued", "running", "cancelled"]
    assert session.wait(job.id).state is State.CANCELLED


def test_cancelling_ends_the_whole_tree(wire: Wire, tmp_path: Path) -> None:
    session = wire.session("ada")
    pids = tmp_path / "pids"
    job = session.submit(call("stubborn", {"pids": str(pids)}))
    wait_for_output(session, job.id, "waiting")
    assert session.cancel(job.id).state is State.CANCELLED
    for pid in pids.read_text().split():
        assert eventually(lambda pid=pid: not lives(int(pid)))  # type: ignore[misc]


def test_a_queued_job_is_cancelled(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    first = session.submit(call("one_at_once", {"path": str(gate)}))
    wait_for_output(session, first.id, "waiting")
    second = session.submit(call("one_at_once", {"path": str(gate)}))
    assert session.get_job(second.id).state is State.QUEUED
    cancelled = session.cancel(second.id)
    assert (cancelled.state, cancelled.attempt, cancelled.started) == (State.CANCELLED, 0, None)
    assert states(all_events(session, second.id)) == ["queued", "cancelled"]
    gate.touch()
    assert session.wait(first.id).state is State.SUCCEEDED


def test_cancelling_an_ended_job_leaves_it_as_it_is(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("nothing"))
    assert session.cancel(job.id) == session.get_job(job.id)
    assert session.get_job(job.id).state is State.SUCCEEDED


def test_cancelling_twice_at_once_is_one_end(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.submit(call("sleeps"))
    wait_for_output(session, job.id, "started")
    with ThreadPoolExecutor(3) as threads:
        ends = list(threads.map(lambda _: wire.open("ada").cancel(job.id), range(3)))
    assert {end.state for end in ends} == {State.CANCELLED}
    finals = [event for event in all_events(session, job.id) if isinstance(event, StateEvent) and event.final]
    assert len(finals) == 1


def test_who_waits_hears_of_a_cancel(wire: Wire) -> None:
    session = wire.open("ada")
    with ThreadPoolExecutor(2) as threads:
        job = session.submit(call("sleeps"))
        waiting = threads.submit(wire.open("ada").wait, job.id)
        wait_for_output(session, job.id, "started")
        session.cancel(job.id)
        assert waiting.result(30).state is State.CANCELLED


def test_a_caller_of_run_hears_of_a_cancel(wire: Wire) -> None:
    session = wire.session("ada")
    with ThreadPoolExecutor(1) as threads:
        name = f"sleeps_{wire.name}"
        (wire.scripts / f"{name}.py").write_text((wire.scripts / "sleeps.py").read_text())
        running = threads.submit(wire.open("ada").run, call(name))
        job = _newest(session, name)
        wait_for_output(session, job.id, "started")
        session.cancel(job.id)
        assert running.result(30).state is State.CANCELLED


def _newest(session: Session, script: str) -> Job:
    """Give the newest job of a script, once there is one."""
    from remoterun.messages import JobQuery

    found: list[Job] = []

    def look() -> bool:
        found[:] = session.list_jobs(JobQuery(script=script, limit=1)).jobs
        return bool(found)

    assert eventually(look)
    return found[0]


def test_a_job_that_waits_for_its_next_attempt_is_cancelled(wire: Wire) -> None:
    session = wire.session("ada")
    name = f"retried_late_{wire.name}"
    text = (wire.scripts / "retried.py").read_text()
    (wire.scripts / f"{name}.py").write_text(text.replace('"10ms"', '"1h"'))
    job = session.submit(call(name, {"good_at": 2}))
    following = session.events(job.id)
    moves = (event for event in following if isinstance(event, StateEvent))
    assert [(next(moves).state.value, 0), next(moves).state.value] == [("queued", 0), "running"]
    assert (waiting := next(moves)).state is State.QUEUED
    assert waiting.attempt == 1
    assert session.cancel(job.id).state is State.CANCELLED
    last = next(moves)
    assert (last.state, last.final) == (State.CANCELLED, True)
    assert next(moves, None) is None


@pytest.mark.parametrize("timeout", [-1.0, 0.0, 1e-9, 1e6])
def test_any_timeout_will_do_to_wait_for_an_ended_job(wire: Wire, timeout: float) -> None:
    session = wire.session("ada")
    job = session.run(call("nothing"))
    assert session.wait(job.id, timeout) == job
