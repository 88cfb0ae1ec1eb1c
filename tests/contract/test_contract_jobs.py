"""Asking for jobs, on every wire: lists, pages, idempotency keys, running again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remoterun.errors import Conflict, Invalid, NotFound, Unauthenticated
from remoterun.messages import Job, JobQuery, NewToken
from remoterun.service import Session, Token
from remoterun.states import State
from tests.contract.wires import Wire, all_events, call, eventually, stream, wait_for_output

UNKNOWN = "01900000-0000-7000-8000-000000000000"


def _script(wire: Wire, name: str, text: str = "def main(n: int = 0) -> int:\n    return n\n") -> str:
    """Drop a script into the folder that no other test uses."""
    full = f"{name}_{wire.name}"
    (wire.scripts / f"{full}.py").write_text(text)
    return full


def _pages(session: Session, query: JobQuery) -> list[list[Job]]:
    pages: list[list[Job]] = []
    while True:
        page = session.list_jobs(query)
        pages.append(list(page.jobs))
        if page.next is None:
            return pages
        query = JobQuery(script=query.script, state=query.state, before=page.next, limit=query.limit)


def test_pages_are_complete_and_do_not_repeat(wire: Wire) -> None:
    session = wire.session("ada")
    name = _script(wire, "paged")
    made = [session.run(call(name, {"n": n})).id for n in range(7)]
    for limit in (1, 2, 3, 7, 50):
        pages = _pages(session, JobQuery(script=name, limit=limit))
        assert [job.id for page in pages for job in page] == made[::-1]
        assert all(len(page) == limit for page in pages[:-1])


def test_pages_hold_while_jobs_come(wire: Wire) -> None:
    session = wire.session("ada")
    name = _script(wire, "growing")
    old = [session.submit(call(name)).id for _ in range(4)]
    first = session.list_jobs(JobQuery(script=name, limit=2))
    session.run(call(name))
    second = session.list_jobs(JobQuery(script=name, limit=2, before=first.next))
    assert [job.id for job in (*first.jobs, *second.jobs)] == old[::-1]


def test_jobs_are_listed_as_they_are(wire: Wire) -> None:
    session = wire.session("ada")
    name = _script(wire, "listed")
    job = session.run(call(name, {"n": 3}))
    assert session.list_jobs(JobQuery(script=name)).jobs == (job,)
    assert session.get_job(job.id) == job


def test_jobs_are_listed_by_state(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    name = _script(wire, "by_state", (wire.scripts / "one_at_once.py").read_text())
    running = session.submit(call(name, {"path": str(gate)}))
    wait_for_output(session, running.id, "waiting")
    queued = session.submit(call(name, {"path": str(gate)}))
    cancelled = session.submit(call(name, {"path": str(gate)}))
    session.cancel(cancelled.id)
    for state, job in (("running", running), ("queued", queued), ("cancelled", cancelled)):
        assert [one.id for one in session.list_jobs(JobQuery(script=name, state=State(state))).jobs] == [job.id]
    gate.touch()
    session.wait(queued.id)
    done = session.list_jobs(JobQuery(script=name, state=State.SUCCEEDED)).jobs
    assert [job.id for job in done] == [queued.id, running.id]


def test_jobs_are_listed_by_time(wire: Wire) -> None:
    session = wire.session("ada")
    name = _script(wire, "by_time")
    first, second, third = (session.run(call(name)) for _ in range(3))

    def ids(**times: object) -> list[str]:
        return [job.id for job in session.list_jobs(JobQuery(script=name, **times)).jobs]  # type: ignore[arg-type]

    assert ids(since=second.created) == [third.id, second.id]
    assert ids(until=second.created) == [first.id]
    assert ids(since=second.created, until=third.created) == [second.id]
    assert ids(since=third.created + timedelta(hours=1)) == []


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_a_sensible_size(wire: Wire, limit: int) -> None:
    with pytest.raises(Invalid):
        wire.session("ada").list_jobs(JobQuery(limit=limit))


def test_callers_see_their_own_jobs_only(wire: Wire) -> None:
    name = _script(wire, "owned")
    mine, theirs = (wire.session(who).run(call(name)) for who in ("ada", "bob"))
    assert [job.id for job in wire.session("ada").list_jobs(JobQuery(script=name)).jobs] == [mine.id]
    assert [job.id for job in wire.session("bob").list_jobs(JobQuery(script=name)).jobs] == [theirs.id]
    assert wire.session("reader").list_jobs(JobQuery(script=name)).jobs == ()
    for who in ("auditor", "root"):
        assert [job.id for job in wire.session(who).list_jobs(JobQuery(script=name)).jobs] == [theirs.id, mine.id]


def test_jobs_are_found_by_who_and_by_what_they_mention(wire: Wire) -> None:
    name = _script(wire, "mentions")
    mine = wire.session("ada").run(call(name)).id
    theirs = wire.session("bob").run(call(name)).id

    def found(who: str, **query: Any) -> list[str]:
        return [job.id for job in wire.session(who).list_jobs(JobQuery(script=name, **query)).jobs]

    bob = f"bob.{wire.name}"
    assert found("root", principal=bob) == [theirs]
    assert found("ada", principal=bob) == []  # as anyone's that are not ada's own
    assert found("ada", principal=f"ada.{wire.name}") == [mine]
    assert found("root", text=mine[-12:].upper()) == [mine]
    assert found("root", text=bob, principal=bob) == [theirs]
    assert found("root", text="no job says this") == []


def test_info_says_who_asks(wire: Wire) -> None:
    info = wire.session("ada").info()
    assert info.principal == wire.session("ada").principal == f"ada.{wire.name}"
    assert info.scopes == ("read", "run")


def test_tokens_are_made_listed_and_revoked(wire: Wire) -> None:
    root, name = wire.session("root"), f"made.{wire.name}"
    made = root.new_token(NewToken(name=name, scopes=("read", "run:hello"), expires=3600.0))
    assert made.name == name
    assert made.token not in repr(made)
    session = wire.authenticate(Token(made.token))
    assert session.info().scopes == ("read", "run:hello")
    [listed] = [token for token in root.list_tokens() if token.name == name]
    assert listed.scopes == ("read", "run:hello")
    assert listed.expires is not None
    with pytest.raises(Invalid, match="named"):
        root.new_token(NewToken(name=name, scopes=("read",)))
    with pytest.raises(Invalid, match="no scope"):
        root.new_token(NewToken(name="other", scopes=("everything",)))
    root.revoke_token(name)
    with pytest.raises(Unauthenticated):
        session.info()
    with pytest.raises(NotFound):
        root.revoke_token(name)


@pytest.mark.parametrize("job_id", [UNKNOWN, "", "no id", "../../etc/passwd", "x" * 3000, "ü✓", "*", "a b\r\nc"])
def test_there_are_no_jobs_with_other_ids(wire: Wire, job_id: str) -> None:
    session = wire.session("ada")
    for ask in (session.get_job, session.wait, session.cancel, session.rerun, all_events_of(session)):
        with pytest.raises((NotFound, Invalid)):
            ask(job_id)
    with pytest.raises((NotFound, Invalid)):
        session.open_artifact(job_id, "plot.txt")
    assert session.run(call("nothing")).state is State.SUCCEEDED


def all_events_of(session: Session):  # type: ignore[no-untyped-def]  # a callable beside bound methods
    return lambda job_id: all_events(session, job_id)


def test_an_unknown_job_is_not_found(wire: Wire) -> None:
    session = wire.session("ada")
    for ask in (session.get_job, session.wait, session.cancel, session.rerun, all_events_of(session)):
        with pytest.raises(NotFound, match=UNKNOWN):
            ask(UNKNOWN)


@pytest.mark.parametrize(
    "name", ["none.txt", "passwd", "etc/passwd", "../result", "fifo", "", "/etc/passwd", "plot.txt/"]
)
def test_there_are_no_other_artifacts(wire: Wire, name: str) -> None:
    session = wire.session("ada")
    job = session.run(call("leaves"))
    with pytest.raises((NotFound, Invalid)):
        session.open_artifact(job.id, name).read()
    assert session.open_artifact(job.id, "plot.txt").read() == "a plot ✓".encode()


@pytest.mark.parametrize("operation", ["run", "submit"])
def test_the_same_key_gives_the_same_job(wire: Wire, key: str, operation: str) -> None:
    session = wire.session("ada")
    request = call("in_fork", {"times": 2}, key=key)
    first = getattr(session, operation)(request)
    second = getattr(session, operation)(request)
    third = getattr(wire.open("ada"), "submit" if operation == "run" else "run")(request)
    assert first.id == second.id == third.id
    assert first.key == key
    assert session.wait(first.id).result == session.wait(second.id).result
    assert session.wait(first.id).attempt == 1


def test_the_same_key_at_once_gives_the_same_job(wire: Wire, key: str) -> None:
    sessions = [wire.open("ada") for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        jobs = list(threads.map(lambda session: session.run(call("in_fork", key=key)), sessions))
    assert len({job.id for job in jobs}) == 1
    assert len({job.result["pid"] for job in jobs}) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"times": 3}},
        {"params": None},
        {"params": {"times": 2}, "timeout": 5.0},
        {"params": {"times": 2}, "stdin": "x"},
        {"script": "in_spawn", "params": {"times": 2}},
    ],
)
def test_the_same_key_with_another_request_is_a_conflict(wire: Wire, key: str, other: dict[str, object]) -> None:
    session = wire.session("ada")
    session.run(call("in_fork", {"times": 2}, key=key))
    changed = call(**{"script": "in_fork", "key": key, **other})  # type: ignore[arg-type]
    for operation in (session.run, session.submit):
        with pytest.raises(Conflict):
            operation(changed)


def test_the_order_of_parameters_and_the_trace_make_no_other_request(wire: Wire, key: str) -> None:
    session = wire.session("ada")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    first = session.run(call("hello", {"name": "Ada", "times": 2}, key=key))
    second = session.run(call("hello", {"times": 2, "name": "Ada"}, key=key, trace=trace))
    assert first.id == second.id


def test_keys_are_the_principal_s_own(wire: Wire, key: str) -> None:
    mine, theirs = (wire.session(who).run(call("nothing", key=key)) for who in ("ada", "bob"))
    assert mine.id != theirs.id


def test_a_refused_request_does_not_use_up_its_key(wire: Wire, key: str) -> None:
    session = wire.session("ada")
    with pytest.raises(Invalid):
        session.submit(call("hello", {"nom": "Ada"}, key=key))
    assert session.run(call("hello", {"name": "Ada"}, key=key)).state is State.SUCCEEDED


def test_a_key_of_a_failed_job_gives_that_job(wire: Wire, key: str) -> None:
    session = wire.session("ada")
    first = session.run(call("fails", {"how": "raise"}, key=key))
    second = session.run(call("fails", {"how": "raise"}, key=key))
    assert (first.id, first.state) == (second.id, State.FAILED)


def test_a_job_is_run_again(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("typed", {"count": "3", "day": "2026-11-01", "tags": ["a"]}))
    again = session.rerun(job.id)
    assert again.id != job.id
    assert again.rerun_of == job.id
    assert again.params == job.params
    ended = session.wait(again.id)
    assert (ended.state, ended.result, ended.version) == (State.SUCCEEDED, job.result, job.version)


def test_argv_and_input_are_run_again(wire: Wire) -> None:
    session = wire.session("ada")
    for job in (session.run(call("argv", args=("a", "ü b"))), session.run(call("cat", stdin_base64=b"\xff\x00"))):
        again = session.wait(session.rerun(job.id).id)
        assert again.args == job.args
        assert stream(all_events(session, again.id)) == stream(all_events(session, job.id))


def test_a_job_is_run_again_with_the_same_version_or_the_newest(wire: Wire) -> None:
    session = wire.session("ada")
    name = _script(wire, "versioned", "def main() -> str:\n    return 'old'\n")
    job = session.run(call(name))
    assert job.result == "old"
    _script(wire, "versioned", "def main() -> str:\n    return 'new and longer'\n")
    assert eventually(lambda: session.get_script(name).version != job.version)
    same = session.wait(session.rerun(job.id).id)
    newest = session.wait(session.rerun(job.id, newest=True).id)
    assert (same.result, same.version) == ("old", job.version)
    assert newest.result == "new and longer"
    assert newest.version == session.get_script(name).version
    assert newest.rerun_of == job.id


def test_a_job_that_has_not_ended_is_not_run_again(wire: Wire, gate: Path) -> None:
    session = wire.session("ada")
    job = session.submit(call("gate", {"path": str(gate)}))
    with pytest.raises(Conflict):
        session.rerun(job.id)
    gate.touch()
    session.wait(job.id)


def test_a_job_with_a_secret_is_not_run_again(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.run(call("secret", {"user": "ada", "password": "correct horse"}))
    assert job.result == {"ada": 13}
    with pytest.raises(Invalid, match="secret"):
        session.rerun(job.id)


def test_a_secret_is_masked_wherever_the_job_is_shown(wire: Wire) -> None:
    session = wire.session("ada")
    job = session.submit(call("secret", {"user": "ada", "password": "correct horse"}))
    shown = [job, session.wait(job.id), session.get_job(job.id), session.list_jobs(JobQuery(script="secret")).jobs[0]]
    for one in shown:
        assert one.params is not None
        assert one.params["user"] == "ada"
        assert "horse" not in str(one.params)
    assert session.wait(job.id).result == {"ada": 13}


def test_a_script_that_went_away_is_not_run_again(wire: Wire) -> None:
    session = wire.session("ada")
    name = _script(wire, "vanished")
    job = session.run(call(name))
    (wire.scripts / f"{name}.py").unlink()
    assert eventually(lambda: session.list_scripts(name) == [])
    for newest in (False, True):
        with pytest.raises(NotFound, match=name):
            session.rerun(job.id, newest)
    assert session.get_job(job.id) == job


@pytest.mark.parametrize("form", ["a-b.c {}", "größe {}", "100% {} #1&+", "semi;colon,{}"])
def test_a_script_s_name_may_be_a_strange_one(wire: Wire, form: str) -> None:
    session = wire.session("ada")
    name = _script(wire, form.format(""))
    assert session.get_script(name).broken is None
    job = session.run(call(name, {"n": 1}))
    assert (job.script, job.result) == (name, 1)
    assert [one.id for one in session.list_jobs(JobQuery(script=name)).jobs] == [job.id]
    assert session.wait(session.rerun(job.id).id).script == name
