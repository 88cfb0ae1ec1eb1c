"""Running and submitting, on every wire: every kind of script, value and input."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from remoterun.errors import Invalid, TooLarge
from remoterun.messages import StateEvent, stdin_fields
from remoterun.states import State
from tests.contract.wires import Wire, all_events, call, eventually, stream, wait_for_output, wait_for_state

REQUEST = 2**20  # limits.request
RESULT = 1_000_000  # limits.result of the suite's nodes
ALL_BYTES = bytes(range(256))


def test_a_function_script_gives_its_result(wire: Wire) -> None:
    job = wire.session("ada").run(call("hello", {"name": "Ada", "times": 3}))
    assert job.state is State.SUCCEEDED
    assert job.result == {"hello": "Ada", "times": 3}
    assert job.params == {"name": "Ada", "times": 3}
    assert (job.script, job.attempt, job.exit_code, job.error) == ("hello", 1, 0, None)
    assert job.principal == f"ada.{wire.name}"
    assert job.started is not None
    assert job.ended is not None
    assert job.created <= job.started <= job.ended
    assert job.version == wire.session("ada").get_script("hello").version
    assert job.output.bytes == 0


def test_a_job_names_its_transport(wire: Wire) -> None:
    names = {
        "dispatcher": {"dispatcher"},
        "tcp": {"socket", "tcp"},
        "unix": {"socket", "unix"},
        "rpyc": {"rpc"},
        "zmq": {"zeromq"},
        "amqp": {"rabbitmq"},
        "stomp": {"activemq"},
        "gateway": {"http"},
    }
    job = wire.session("ada").run(call("nothing"))
    assert job.transport in names.get(wire.name, {wire.name})


def test_a_plain_script_takes_argv(wire: Wire) -> None:
    args = ("--full", "", " two words ", "ünï ✓", "-", "--", "$HOME;`id`", "a\nb", "nul \0", "key=value", "x:=1")
    session = wire.session("ada")
    job = session.run(call("argv", args=args))
    assert job.state is State.SUCCEEDED
    assert job.args == args
    assert job.params is None
    assert json.loads(stream(all_events(session, job.id))) == list(args)


def test_a_plain_script_needs_no_argv(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("argv"))
    assert (job.state, job.args, job.result) == (State.SUCCEEDED, (), None)
    assert json.loads(stream(all_events(session, job.id))) == []


def test_a_plain_script_may_leave_a_result(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("plain_result"))
    assert job.result == {"rows": 3}
    assert stream(all_events(session, job.id)) == b"text beside the result\n"


def test_a_script_in_a_folder_runs(wire: Wire) -> None:
    job = wire.session("ada").run(call("reports/daily", {"day": "2026-11-01"}))
    assert job.result == "report of 2026-11-01"


@pytest.mark.parametrize(
    "data",
    [b"", b"text\n", "ünï ✓ 🎉\n".encode(), b"\x00\x01\r\n\xff\xfe", ALL_BYTES * 100, b"no newline"],
    ids=["empty", "text", "unicode", "bytes", "long", "no newline"],
)
def test_input_reaches_a_script_as_it_is(wire: Wire, data: bytes) -> None:
    session = wire.session("ada")
    job = session.run(call("cat", **stdin_fields(data)))
    assert job.state is State.SUCCEEDED
    assert stream(all_events(session, job.id)) == data
    assert job.output.bytes == len(data)


def test_without_input_a_script_reads_none(wire: Wire) -> None:
    job = wire.session("ada").run(call("cat"))
    assert (job.state, job.output.bytes) == (State.SUCCEEDED, 0)


VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    10**40,
    0.1,
    -1.5e300,
    1e-320,
    "",
    "text",
    "quotes \" and ' and \\ and / and \t\r\n",
    "nul \x00 and \x7f and \u2028",
    "ünï ✓ 漢字 🎉",
    "\u202eright to left",
    "\r\n$5\r\nHELLO",
    "key:=value",
    [],
    {},
    [1, "two", None, [3.5, {"four": [True]}]],
    {"": 1, "ü": {"nested": {"deeply": [[[[[]]]]]}}, "a.b": 2, "__proto__": 3},
    ["x" * 1000] * 50,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30].encode("ascii", "replace").decode())
def test_values_come_back_as_they_went(wire: Wire, value: Any) -> None:
    job = wire.session("ada").run(call("echo", {"value": value}))
    assert job.state is State.SUCCEEDED
    assert job.result == value
    assert type(job.result) is type(value)
    assert job.params == {"value": value}


def test_deeply_nested_values_come_back(wire: Wire) -> None:
    value: Any = "core"
    for _ in range(100):
        value = [value]
    assert wire.session("ada").run(call("echo", {"value": value})).result == value


def test_texts_are_converted_by_the_declared_type(wire: Wire) -> None:
    params = {"count": "3", "day": "2026-11-01", "ratio": "1.25", "flag": "true", "tags": ["a", "b"], "color": "green"}
    assert wire.session("ada").run(call("typed", params)).result == {
        "count": [3, "int"],
        "day": ["2026-11-01", "date"],
        "ratio": [1.25, "float"],
        "flag": [True, "bool"],
        "tags": ["a", "b"],
        "color": "green",
    }


def test_defaults_fill_what_is_left_out(wire: Wire) -> None:
    job = wire.session("ada").run(call("typed", {"count": 1, "day": "2026-11-01"}))
    assert job.result["ratio"] == [0.5, "float"]
    assert job.result["flag"] == [False, "bool"]


@pytest.mark.parametrize("operation", ["run", "submit"])
def test_every_bad_parameter_is_named(wire: Wire, operation: str) -> None:
    bad = {"count": 0, "day": "yesterday", "ratio": "much", "flag": 7, "tags": ["fine", 4], "color": "blue", "extra": 1}
    with pytest.raises(Invalid) as refused:
        getattr(wire.session("ada"), operation)(call("typed", bad))
    assert {field.field for field in refused.value.fields} == {
        "count",
        "day",
        "ratio",
        "flag",
        "tags.1",
        "color",
        "extra",
    }
    assert all(field.message for field in refused.value.fields)


def test_missing_parameters_are_named(wire: Wire) -> None:
    with pytest.raises(Invalid) as refused:
        wire.session("ada").run(call("typed"))
    assert sorted(field.field for field in refused.value.fields) == ["count", "day"]


def test_what_a_script_s_own_validator_refuses_is_named(wire: Wire) -> None:
    assert wire.session("ada").run(call("picky", {"number": 2})).result == 2
    job = wire.session("ada").run(call("picky", {"number": 3}))
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.type == "invalid"
    assert isinstance(job.error.fields, tuple)
    assert [field.field for field in job.error.fields] == ["number"]
    assert "even" in job.error.fields[0].message


@pytest.mark.parametrize(
    "request_of",
    [
        call("argv", {"name": "x"}),
        call("hello", args=("x",)),
        call("nothing", timeout=0),
        call("nothing", timeout=-1.0),
        call("nothing", key=""),
        call("nothing", key="k" * 256),
    ],
    ids=["params of a plain script", "argv of a function", "no timeout", "negative", "empty key", "long key"],
)
def test_a_request_that_makes_no_sense_is_invalid(wire: Wire, request_of: Any) -> None:
    with pytest.raises(Invalid):
        wire.session("ada").run(request_of)
    with pytest.raises(Invalid):
        wire.session("ada").submit(request_of)
    assert wire.session("ada").run(call("nothing")).state is State.SUCCEEDED


@pytest.mark.parametrize("size", [100_000, REQUEST - 4096])
def test_large_parameters_are_taken(wire: Wire, size: int) -> None:
    job = wire.session("ada").run(call("cat", stdin="x" * size))
    assert job.state is State.SUCCEEDED
    assert job.output.bytes == size


@pytest.mark.parametrize("operation", ["run", "submit"])
@pytest.mark.parametrize("size", [REQUEST + 1, 3 * REQUEST])
def test_a_request_beyond_the_limit_is_too_large(wire: Wire, operation: str, size: int) -> None:
    session = wire.session("ada")
    for request in (call("echo", {"value": "x" * size}), call("cat", stdin="x" * size)):
        with pytest.raises(TooLarge):
            getattr(session, operation)(request)
        assert session.run(call("nothing")).state is State.SUCCEEDED


@pytest.mark.parametrize("size", [100_000, RESULT - 2])
def test_large_results_come_whole(wire: Wire, size: int) -> None:
    assert wire.session("ada").run(call("big", {"size": size})).result == "x" * size


def test_a_result_beyond_the_limit_fails_its_job(wire: Wire) -> None:
    job = wire.session("ada").run(call("big", {"size": RESULT}))
    assert job.state is State.FAILED
    assert job.result is None
    assert job.error is not None
    assert "result" in job.error.message


@pytest.mark.parametrize("script", ["in_fork", "in_spawn"])
def test_a_fresh_process_forgets(wire: Wire, script: str) -> None:
    results = [wire.session("ada").run(call(script)).result for _ in range(3)]
    assert [result["calls"] for result in results] == [1, 1, 1]
    assert len({result["pid"] for result in results}) == 3


def test_a_warm_process_remembers(wire: Wire) -> None:
    session = wire.session("ada")
    jobs = [session.run(call("in_warm", {"times": number})) for number in range(5)]
    assert [job.result["times"] for job in jobs] == list(range(5))
    assert max(job.result["calls"] for job in jobs) > 1
    for job in jobs:
        assert stream(all_events(session, job.id)) == f"call {job.result['calls']}\n".encode()


def test_submit_gives_a_job_that_has_just_begun(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    job = session.submit(call("gate", {"path": str(gate), "then": "after"}))
    assert not job.has_ended
    assert session.get_job(job.id).id == job.id
    gate.touch()
    ended = session.wait(job.id)
    assert (ended.id, ended.state, ended.result) == (job.id, State.SUCCEEDED, "after")


def test_waiting_with_a_timeout_gives_the_job_as_it_stands(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    job = session.submit(call("gate", {"path": str(gate)}))
    wait_for_output(session, job.id, "waiting")
    assert session.wait(job.id, 0.05).state is State.RUNNING
    assert session.wait(job.id, 0).state is State.RUNNING
    gate.touch()
    assert session.wait(job.id, 30).state is State.SUCCEEDED
    assert session.wait(job.id, 0).state is State.SUCCEEDED


def test_many_calls_run_side_by_side(wire: Wire) -> None:
    def run_some(worker: int) -> list[Any]:
        session = wire.open("ada")
        return [session.run(call("echo", {"value": [worker, number]})).result for number in range(5)]

    with ThreadPoolExecutor(6) as threads:
        for worker, results in enumerate(threads.map(run_some, range(6))):
            assert results == [[worker, number] for number in range(5)]


def test_one_session_serves_many_threads_of_a_caller(wire: Wire) -> None:
    session = wire.open("ada")
    with ThreadPoolExecutor(4) as threads:
        jobs = threads.map(lambda number: session.run(call("echo", {"value": number})), range(12))
        assert [job.result for job in jobs] == list(range(12))


def test_a_script_runs_no_more_often_at_once_than_it_says(wire: Wire, tmp_path: Path) -> None:
    session = wire.session("ada")
    gates = [tmp_path / f"gate{number}" for number in range(3)]
    jobs = [session.submit(call("one_at_once", {"path": str(gate), "then": gate.name})) for gate in gates]
    for job, gate in zip(jobs, gates, strict=True):
        wait_for_output(session, job.id, "waiting")
        running = [one.id for one in jobs if session.get_job(one.id).state is State.RUNNING]
        assert running == [job.id]
        gate.touch()
        assert session.wait(job.id).result == gate.name


def test_a_job_s_world_is_clean(wire: Wire) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    first, second = (wire.session("ada").run(call("environment", trace=trace)) for _ in range(2))
    world = first.result
    assert world["environ"]["SEEN_BY_JOBS"] == "yes"
    assert "HIDDEN_FROM_JOBS" not in world["environ"]
    assert not [name for name in world["environ"] if "TOKEN" in name or "SECRET" in name]
    assert world["environ"]["REMOTERUN_JOB"] == first.id
    assert world["environ"]["PYTHONUNBUFFERED"] == "1"
    assert world["files"] == []
    assert second.result["files"] == []
    assert second.result["cwd"] != world["cwd"]
    assert world["tty"] is False
    assert world["job"] == {"id": first.id, "attempt": 1, "trace": trace}
    assert eventually(lambda: not Path(world["cwd"]).exists())


def test_a_job_has_no_descriptors_of_the_node_s(wire: Wire) -> None:
    world = wire.session("ada").run(call("environment")).result
    assert [number for number in world["descriptors"] if number > 9] == []


def test_failing_attempts_are_retried_with_higher_numbers(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("retried", {"good_at": 3}))
    assert (job.state, job.result, job.attempt, job.error) == (State.SUCCEEDED, 3, 3, None)
    events = all_events(session, job.id)
    assert stream(events) == b"attempt 1\nattempt 2\nattempt 3\n"
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    assert [(event.state.value, event.attempt) for event in events if isinstance(event, StateEvent)] == [
        ("queued", 0),
        ("running", 1),
        ("queued", 1),
        ("running", 2),
        ("queued", 2),
        ("running", 3),
        ("succeeded", 3),
    ]


def test_attempts_come_to_an_end(wire: Wire) -> None:
    job = wire.session("ada").run(call("retried", {"good_at": 9}))
    assert (job.state, job.attempt) == (State.FAILED, 3)
    assert job.error is not None
    assert job.error.message == "attempt 3 fails"


def test_a_job_moves_to_running(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    job = session.submit(call("gate", {"path": str(gate)}))
    wait_for_state(session, job.id, "running")
    assert session.get_job(job.id).started is not None
