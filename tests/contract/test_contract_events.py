"""The event log, on every wire: complete, ordered, numbered without gaps, followed live, resumed anywhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from remoterun.messages import ArtifactEvent, Event, OutputEvent, ProgressEvent, StateEvent, encode
from remoterun.states import State
from tests.contract.wires import (
    Wire,
    all_events,
    call,
    close_events,
    states,
    stream,
    until_output,
    wait_for_output,
)


def _hex(*pieces: bytes) -> list[str]:
    return [piece.hex() for piece in pieces]


def assert_complete(events: list[Event], after: int = 0) -> None:
    """Check what holds for every job's log that was read to its end."""
    assert [event.n for event in events] == list(range(after + 1, after + 1 + len(events)))
    last = events[-1]
    assert isinstance(last, StateEvent)
    assert last.final
    assert not any(isinstance(event, StateEvent) and event.final for event in events[:-1])
    assert all(before.time <= later.time for before, later in pairwise(events))
    assert len({event.job for event in events}) == 1


def test_a_log_is_complete(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("writes", {"pieces": _hex(b"one\n", b"two\n", b"three\n")}))
    events = all_events(session, job.id)
    assert_complete(events)
    assert states(events) == ["queued", "running", "succeeded"]
    assert stream(events) == b"one\ntwo\nthree\n"


def test_a_submitted_job_has_the_same_log_as_a_run_one(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.submit(call("writes", {"pieces": _hex(b"one\n")}))
    events = all_events(session, job.id)
    assert_complete(events)
    assert [type(event) for event in events] == [StateEvent, StateEvent, OutputEvent, StateEvent]
    assert [event.attempt for event in events if isinstance(event, StateEvent)] == [0, 1, 1]


def test_a_log_can_be_read_from_any_number(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("writes", {"pieces": _hex(b"a", b"b", b"c")}))
    events = all_events(session, job.id)
    for after in range(len(events)):
        assert all_events(session, job.id, after) == events[after:]


@pytest.mark.parametrize("beyond", [0, 1, 1000])
def test_after_the_end_there_is_nothing(wire: Wire, beyond: int) -> None:
    session = wire.session("ada")
    job = session.run(call("nothing"))
    last = all_events(session, job.id)[-1].n
    assert all_events(session, job.id, last + beyond) == []


def test_events_come_while_the_job_runs(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    job = session.submit(call("gate", {"path": str(gate)}))
    following = session.events(job.id)
    seen = until_output(iter(following), "waiting")
    assert session.get_job(job.id).state is State.RUNNING
    gate.touch()
    seen += list(following)
    assert_complete(seen)
    assert stream(seen) == b"waiting\ngoing on\n"


def test_following_can_be_resumed_while_the_job_runs(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    job = session.submit(call("gate", {"path": str(gate)}))
    following = session.events(job.id)
    seen = until_output(iter(following), "waiting")
    close_events(following)
    resumed = session.events(job.id, seen[-1].n)
    gate.touch()
    rest = list(resumed)
    assert_complete(rest, after=seen[-1].n)
    assert_complete(seen + rest)


def test_calls_go_on_while_events_are_followed(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    job = session.submit(call("gate", {"path": str(gate)}))
    following = session.events(job.id)
    until_output(iter(following), "waiting")
    assert session.run(call("echo", {"value": 1})).result == 1
    assert session.get_job(job.id).state is State.RUNNING
    gate.touch()
    assert isinstance(list(following)[-1], StateEvent)


def test_followers_see_identical_events(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    job = session.submit(call("gate", {"path": str(gate)}))
    wait_for_output(session, job.id, "waiting")
    with ThreadPoolExecutor(4) as threads:
        followers = [threads.submit(all_events, wire.open("ada"), job.id) for _ in range(4)]
        gate.touch()
        logs = [[encode(event) for event in follower.result(30)] for follower in followers]
    assert logs[0] == logs[1] == logs[2] == logs[3]
    assert logs[0] == [encode(event) for event in all_events(session, job.id)]


def test_a_queued_job_can_be_followed(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    first = session.submit(call("one_at_once", {"path": str(gate)}))
    second = session.submit(call("one_at_once", {"path": str(gate)}))
    following = session.events(second.id)
    event = next(iter(following))
    assert isinstance(event, StateEvent)
    assert event.state is State.QUEUED
    gate.touch()
    assert_complete([event, *following])
    assert session.wait(first.id).state is State.SUCCEEDED


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"\xff\xfe\x00raw"], b"\xff\xfe\x00raw"),
        (["ü".encode()[:1], "ü".encode()[1:]], "ü".encode()),
        (["🎉".encode()[:3], "🎉".encode()[3:] + b"!"], "🎉!".encode()),
        ([b"cut off: " + "é".encode()[:1]], b"cut off: \xc3"),
        ([b"\xc3", b"(bad"], b"\xc3(bad"),
        ([b"\x00\x01\x1b[31mred\x1b[0m\r\n"], b"\x00\x01\x1b[31mred\x1b[0m\r\n"),
    ],
    ids=["no UTF-8", "split", "split of four", "cut off", "bad second byte", "control"],
)
def test_bytes_of_output_arrive_as_they_were(wire: Wire, pieces: list[bytes], expected: bytes) -> None:
    session = wire.session("ada")
    job = session.run(call("writes", {"pieces": _hex(*pieces)}))
    assert job.state is State.SUCCEEDED
    events = all_events(session, job.id)
    assert stream(events) == expected
    assert job.output.bytes == len(expected)


def test_a_character_that_was_split_arrives_whole(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("writes", {"pieces": _hex(b"a\xf0\x9f", b"\x8e", b"\x89b")}))
    texts = [event.data for event in all_events(session, job.id) if isinstance(event, OutputEvent)]
    assert "".join(str(text) for text in texts) == "a🎉b"


def test_streams_are_told_apart(wire: Wire) -> None:
    session = wire.session("ada")
    out = session.run(call("writes", {"pieces": _hex(b"to stdout")}))
    err = session.run(call("writes", {"pieces": _hex(b"to stderr"), "stream": "stderr"}))
    assert stream(all_events(session, out.id)) == b"to stdout"
    assert stream(all_events(session, out.id), "stderr") == b""
    assert stream(all_events(session, err.id), "stderr") == b"to stderr"
    assert stream(all_events(session, err.id)) == b""


def test_output_beyond_the_limit_is_cut_and_said(wire: Wire) -> None:
    session = wire.session("ada")
    piece = bytes(range(256)) * 200
    job = session.run(call("writes", {"pieces": _hex(*[piece] * 8), "pause": 0.0}))
    assert job.state is State.SUCCEEDED
    assert (job.output.bytes, job.output.cut) == (8 * len(piece), True)
    assert stream(all_events(session, job.id)) == (piece * 8)[:300_000]


def test_a_job_that_writes_without_end_is_stopped(wire: Wire) -> None:
    session = wire.session("ada")
    name = f"floods_{wire.name}"
    (wire.scripts / f"{name}.py").write_text("def main():\n    while True:\n        print('flood ' * 1000)\n")
    job = session.run(call(name))
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.type == "OutputLimit"
    assert "limits.output_stop" in job.error.message
    assert_complete(all_events(session, job.id))


def test_progress_is_told(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("steps"))
    assert job.progress is not None
    assert (job.progress.done, job.progress.total, job.progress.message) == (3, 3, "step 3")
    told = [event for event in all_events(session, job.id) if isinstance(event, ProgressEvent)]
    assert told
    assert (told[-1].done, told[-1].total, told[-1].message) == (3, 3, "step 3")
    assert [event.done for event in told] == sorted(event.done for event in told)


def test_artifacts_are_told_before_the_end(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("leaves"))
    events = all_events(session, job.id)
    assert_complete(events)
    told = [event for event in events if isinstance(event, ArtifactEvent)]
    assert [(event.name, event.size) for event in told] == [(left.name, left.size) for left in job.artifacts]


def test_artifacts_come_back_as_they_were(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("leaves", {"big": 700_000 // 256 * 256}))
    left = {artifact.name: artifact for artifact in job.artifacts}
    assert sorted(left) == ["big.bin", "empty", "pages/1 of 2.html", "plot.txt"]
    for name, expected in {
        "plot.txt": "a plot ✓".encode(),
        "pages/1 of 2.html": b"<p>one</p>",
        "empty": b"",
        "big.bin": bytes(range(256)) * (700_000 // 256),
    }.items():
        opened = session.open_artifact(job.id, name)
        assert opened.info == left[name]
        assert opened.read() == expected
        assert opened.info.size == len(expected)
    assert left["plot.txt"].media_type == "text/plain"
    assert left["pages/1 of 2.html"].media_type == "text/html"


def test_a_log_of_many_events_is_read_whole(wire: Wire) -> None:
    session = wire.session("ada")
    pieces = [f"{number:04}\n".encode() for number in range(1500)]
    job = session.run(call("writes", {"pieces": _hex(*pieces), "pause": 0.0003}))
    events = all_events(session, job.id)
    assert_complete(events)
    assert stream(events) == b"".join(pieces)
    middle = len(events) // 2
    assert all_events(session, job.id, middle) == events[middle:]
