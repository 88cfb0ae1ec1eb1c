"""Warm scripts, on every wire: one call after another in a process, and no call feels the one before."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from remoterun.messages import Job, ProgressEvent
from remoterun.states import State
from tests.contract.wires import Wire, all_events, call, stream, wait_for_output

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _assert_as_ever(wire: Wire, n: int = 1, **fields: str) -> None:
    session = wire.session("ada")
    job = session.run(call("warm", {"n": n}, **fields))
    assert job.state is State.SUCCEEDED, job
    assert (job.result["n"], job.result["job"], job.result["attempt"]) == (n, job.id, 1)
    assert job.result["trace"] == fields.get("trace")
    events = all_events(session, job.id)
    assert stream(events) == f"out {n}\n".encode()
    assert stream(events, "stderr") == f"err {n}\n".encode()
    assert job.artifacts == ()
    assert job.progress is None
    assert session.run(call("warm", {"do": "look"})).result == [[], True, 1]


def test_each_call_has_its_own_job(wire: Wire) -> None:
    for n in range(3):
        _assert_as_ever(wire, n)
    _assert_as_ever(wire, 7, trace=TRACE)
    _assert_as_ever(wire, 8)


@pytest.mark.parametrize("do", ["raise", "exit", "die", "litter", "chdir", "thread", "child", "artifact", "stdin"])
def test_no_call_feels_the_one_before(wire: Wire, do: str) -> None:
    wire.session("ada").run(call("warm", {"do": do, "n": 3}, stdin="input"))
    _assert_as_ever(wire)


def test_a_failure_is_told_as_ever(wire: Wire) -> None:
    session = wire.session("ada")
    for n in (1, 2):
        job = session.run(call("warm", {"do": "raise", "n": n}))
        assert job.error is not None
        assert (job.state, job.error.type, job.error.message) == (State.FAILED, "ValueError", f"call {n}")
    left = session.run(call("warm", {"do": "exit", "n": 3}))
    assert (left.state, left.exit_code) == (State.FAILED, 3)
    killed = session.run(call("warm", {"do": "die"}))
    assert (killed.state, killed.exit_code) == (State.FAILED, -9)


def test_artifacts_and_progress_are_each_call_s_own(wire: Wire) -> None:
    session = wire.session("ada")
    for n in range(3):
        job = session.run(call("warm", {"do": "artifact", "n": n}))
        assert session.open_artifact(job.id, "n.txt").read() == str(n).encode()
        assert job.progress is not None
        assert job.progress.message == f"step {n}"
        told = [event.done for event in all_events(session, job.id) if isinstance(event, ProgressEvent)]
        assert told == [n]


def test_input_is_each_call_s_own(wire: Wire) -> None:
    session = wire.session("ada")
    given = ["first", None, "third ü", "", None]
    read = [session.run(call("warm", {"do": "stdin"}, stdin=text)).result for text in given]
    assert read == [text or "" for text in given]


def test_a_timeout_ends_the_process_and_nothing_else(wire: Wire) -> None:
    assert wire.session("ada").run(call("warm", {"do": "sleep"}, timeout=0.2)).state is State.TIMED_OUT
    _assert_as_ever(wire)


def test_a_cancel_ends_the_process_and_nothing_else(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.submit(call("warm", {"do": "sleep"}))
    wait_for_output(session, job.id, "started")
    assert session.cancel(job.id).state is State.CANCELLED
    _assert_as_ever(wire)


def test_calls_of_all_kinds_side_by_side_get_what_is_theirs(wire: Wire) -> None:
    kinds = ["", "", "", "raise", "exit", "die", "artifact", "litter", "chdir", "thread"]
    chosen = random.Random(wire.name)
    calls = [(chosen.choice(kinds), n) for n in range(1, 61)]

    def run(worker: int) -> list[tuple[str, int, Job]]:
        session = wire.open("ada")
        return [(do, n, session.run(call("warm", {"do": do, "n": n}))) for do, n in calls[worker::4]]

    with ThreadPoolExecutor(4) as threads:
        ended = [one for some in threads.map(run, range(4)) for one in some]
    for do, n, job in ended:
        if do in ("raise", "exit", "die"):
            assert job.state is State.FAILED, (do, job)
            assert job.exit_code == {"raise": 1, "exit": n, "die": -9}[do]
            continue
        assert job.state is State.SUCCEEDED, (do, job)
        assert (job.result["n"], job.result["job"]) == (n, job.id)
        events = all_events(wire.session("ada"), job.id)
        assert stream(events) == f"out {n}\n".encode()
        if do == "artifact":
            assert wire.session("ada").open_artifact(job.id, "n.txt").read() == str(n).encode()
