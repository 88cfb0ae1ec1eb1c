"""Every error code, on every wire: the same class, the same text, and a session that goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remoterun.access import new_token
from remoterun.errors import (
    BY_CODE,
    Busy,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServiceError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from remoterun.messages import Job
from remoterun.service import Token
from remoterun.states import State
from tests.contract.wires import Wire, call, eventually, wait_for_output


def _unauthenticated(wire: Wire) -> None:
    wire.authenticate(Token(new_token()))


def _forbidden(wire: Wire) -> None:
    wire.session("reader").run(call("hello", {"name": "Ada"}))


def _not_found(wire: Wire) -> None:
    wire.session("ada").run(call("no/such"))


def _invalid(wire: Wire) -> None:
    wire.session("ada").run(call("hello", {"times": 10}))


def _conflict(wire: Wire) -> None:
    key = f"conflict on {wire.name}"
    wire.session("ada").run(call("nothing", key=key))
    wire.session("ada").run(call("nothing", key=key, timeout=7.0))


def _too_large(wire: Wire) -> None:
    wire.session("ada").submit(call("echo", {"value": "x" * 2**20}))


def _unavailable(wire: Wire) -> None:
    wire.session("ada").run(call("broken"))


CAUSES: dict[type[ServiceError], tuple[Callable[[Wire], None], str]] = {
    Unauthenticated: (_unauthenticated, "not known here, or was revoked"),
    Forbidden: (_forbidden, "scope run:hello"),
    NotFound: (_not_found, "no/such"),
    Invalid: (_invalid, "name: it is required"),
    Conflict: (_conflict, "a new request needs a new key"),
    TooLarge: (_too_large, ""),
    Unavailable: (_unavailable, "broken.py:1"),
}


def test_every_code_has_its_test() -> None:
    elsewhere = {Busy.code, "internal"}  # below, and where faults are injected
    assert {error.code for error in CAUSES} | elsewhere == set(BY_CODE)


@pytest.mark.parametrize("error", CAUSES, ids=lambda error: error.code)
def test_a_refusal_is_the_same_on_every_wire(wire: Wire, error: type[ServiceError]) -> None:
    cause, text = CAUSES[error]
    with pytest.raises(error) as refused:
        cause(wire)
    assert type(refused.value) is error
    assert text in refused.value.message
    assert "\n" not in refused.value.message
    assert wire.session("ada").run(call("nothing")).state is State.SUCCEEDED


def test_refusals_are_recorded(wire: Wire) -> None:
    for cause, _ in (CAUSES[Forbidden], CAUSES[NotFound], CAUSES[Invalid], CAUSES[Unauthenticated]):
        with pytest.raises(ServiceError):
            cause(wire)

    def recorded() -> set[tuple[str | None, str, str | None, str]]:
        found = wire.session("auditor").list_refusals(200)
        return {(one.principal, one.operation, one.script, one.code) for one in found}

    expected = {
        (f"reader.{wire.name}", "run", "hello", "forbidden"),
        (f"ada.{wire.name}", "run", "no/such", "not_found"),
        (f"ada.{wire.name}", "run", "hello", "invalid"),
        (None, "authenticate", None, "unauthenticated"),
    }
    assert eventually(lambda: expected <= recorded()), recorded()


def test_refusals_come_newest_first(wire: Wire) -> None:
    for name in ("first_missing", "second_missing"):
        with pytest.raises(NotFound):
            wire.session("ada").run(call(name))
    found = [one for one in wire.session("root").list_refusals(50) if (one.script or "").endswith("_missing")]
    assert [one.script for one in found[:2]] == ["second_missing", "first_missing"]
    assert found[0].time >= found[1].time
    assert len(wire.session("root").list_refusals(1)) == 1


def test_a_full_queue_is_busy(make_wire: Callable[..., Wire], gate: Path) -> None:
    wire = make_wire(workers=1, queue=2)
    session = wire.session("ada")
    jobs = [session.submit(call("gate", {"path": str(gate)}))]
    wait_for_output(session, jobs[0].id, "waiting")
    jobs += [session.submit(call("gate", {"path": str(gate)})) for _ in range(2)]
    for operation in (session.run, session.submit):
        with pytest.raises(Busy) as refused:
            operation(call("nothing"))
        assert refused.value.retry_after is not None
        assert 0 < refused.value.retry_after <= 60
    assert session.info().load.queued == 2
    gate.touch()
    assert [session.wait(job.id).state for job in jobs] == [State.SUCCEEDED] * 3
    assert session.run(call("nothing")).state is State.SUCCEEDED


def test_a_stopping_node_is_unavailable(make_wire: Callable[..., Wire], gate: Path) -> None:
    wire = make_wire(grace="60s")
    session, follower = wire.session("ada"), wire.open("ada")
    with ThreadPoolExecutor(1) as threads:
        job = session.submit(call("gate", {"path": str(gate)}))
        wait_for_output(session, job.id, "waiting")
        waiting = threads.submit(follower.wait, job.id)
        wire.host.terminate()
        refused: list[ServiceError] = []

        def is_refused() -> bool:
            try:
                session.submit(call("nothing"))
            except Unavailable as error:
                refused.append(error)
            return bool(refused)

        assert eventually(is_refused)
        assert "stopping" in refused[0].message
        assert session.get_job(job.id).state is State.RUNNING
        gate.touch()
        ended: Job = waiting.result(30)
        assert ended.state is State.SUCCEEDED


def test_who_waits_for_a_job_that_stays_queued_is_told(make_wire: Callable[..., Wire], gate: Path, key: str) -> None:
    wire = make_wire(workers=1, grace="100ms")
    session = wire.session("ada")
    running = session.submit(call("gate", {"path": str(gate)}))
    wait_for_output(session, running.id, "waiting")
    queued = session.submit(call("nothing", key=key))
    with ThreadPoolExecutor(3) as threads:
        sessions = [wire.open("ada") for _ in range(3)]
        calls = [
            threads.submit(sessions[0].wait, queued.id),
            threads.submit(sessions[1].run, call("nothing", key=key)),
            threads.submit(sessions[2].run, call("nothing")),
        ]
        assert eventually(lambda: session.info().load.queued == 2)
        wire.host.terminate()
        for waiting in calls:
            error = waiting.exception(20)
            assert isinstance(error, Unavailable), error
