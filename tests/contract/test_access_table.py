"""Who may do what: every operation × every wire × every credential. Deny by default."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import pytest

from remoterun.access import Tokens, is_well_formed, new_token
from remoterun.errors import Forbidden, Unauthenticated
from remoterun.messages import JobQuery, NewToken
from remoterun.service import OPERATIONS, Session, Token
from tests.contract.wires import Wire, all_events, call, eventually


@dataclass(frozen=True)
class Row:
    """An operation, who may do it, who may not for want of a scope, and who may not with a job of another's.

    `do` takes a session and the id of a job that has ended and left `plot.txt`.
    """

    do: Callable[[Session, str], object]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    other: tuple[str, ...] = ()  # may do it with their own jobs, and not with one of ada's
    of_all: tuple[str, ...] = ()  # may do it with anyone's jobs


NUMBERS = itertools.count(1)

TABLE: Mapping[str, Row] = {
    "info": Row(
        lambda session, job: session.info(),
        right=("ada", "reader", "runner", "auditor", "stopper", "root"),
        wrong=(),
    ),
    "list_scripts": Row(
        lambda session, job: session.list_scripts(),
        right=("ada", "reader", "auditor", "root"),
        wrong=("runner", "stopper"),
    ),
    "get_script": Row(
        lambda session, job: session.get_script("hello"),
        right=("ada", "reader", "auditor", "root"),
        wrong=("runner", "stopper"),
    ),
    "run": Row(
        lambda session, job: session.run(call("hello", {"name": "Ada"})),
        right=("ada", "runner", "root"),
        wrong=("reader", "auditor", "stopper"),
    ),
    "submit": Row(
        lambda session, job: session.submit(call("hello", {"name": "Ada"})),
        right=("ada", "runner", "root"),
        wrong=("reader", "auditor", "stopper"),
    ),
    "get_job": Row(
        lambda session, job: session.get_job(job),
        right=("ada",),
        wrong=("runner", "stopper"),
        other=("bob", "reader"),
        of_all=("auditor", "root"),
    ),
    "list_jobs": Row(
        lambda session, job: session.list_jobs(JobQuery()),
        right=("ada", "reader", "auditor", "root"),
        wrong=("runner", "stopper"),
    ),
    "wait": Row(
        lambda session, job: session.wait(job, 0),
        right=("ada",),
        wrong=("runner", "stopper"),
        other=("bob", "reader"),
        of_all=("auditor", "root"),
    ),
    "events": Row(
        lambda session, job: all_events(session, job),
        right=("ada",),
        wrong=("runner", "stopper"),
        other=("bob", "reader"),
        of_all=("auditor", "root"),
    ),
    "open_artifact": Row(
        lambda session, job: session.open_artifact(job, "plot.txt").read(),
        right=("ada",),
        wrong=("runner", "stopper"),
        other=("bob", "reader"),
        of_all=("auditor", "root"),
    ),
    "cancel": Row(
        lambda session, job: session.cancel(job),
        right=("ada",),
        wrong=("reader", "auditor"),
        other=("bob", "runner"),
        of_all=("stopper", "root"),
    ),
    "rerun": Row(
        lambda session, job: session.rerun(job),
        right=("ada",),
        wrong=("runner", "stopper", "auditor"),
        other=("bob", "reader"),
        of_all=("root",),
    ),
    "list_refusals": Row(
        lambda session, job: session.list_refusals(),
        right=("auditor", "root"),
        wrong=("ada", "bob", "reader", "runner", "stopper"),
    ),
    "list_tokens": Row(
        lambda session, job: session.list_tokens(),
        right=("root",),
        wrong=("ada", "bob", "reader", "runner", "auditor", "stopper"),
    ),
    "new_token": Row(
        lambda session, job: session.new_token(NewToken(name=f"made.{next(NUMBERS)}", scopes=("read",))),
        right=("root",),
        wrong=("ada", "bob", "reader", "runner", "auditor", "stopper"),
    ),
    "backup": Row(
        lambda session, job: session.backup(),
        right=("root",),
        wrong=("ada", "bob", "reader", "runner", "auditor", "stopper"),
    ),
    "revoke_token": Row(
        lambda session, job: revoke_one(session),
        right=("root",),
        wrong=("ada", "bob", "reader", "runner", "auditor", "stopper"),
    ),
}


def revoke_one(session: Session) -> None:
    """Revoke a token that was made for it, where one may make one."""
    with suppress(Forbidden):
        session.new_token(NewToken(name="to.revoke", scopes=("read",)))
    session.revoke_token("to.revoke")


ON_JOBS = tuple(name for name, row in TABLE.items() if row.other)


def test_every_operation_has_its_row() -> None:
    assert set(TABLE) == set(OPERATIONS)


@pytest.fixture(scope="module")
def jobs(wire: Wire) -> Mapping[str, str]:
    """Give an ended job of each principal that can run one, by its name; a session may follow what it ran itself."""
    made = {who: wire.open(who).run(call("leaves")).id for who in ("ada", "bob", "root")}
    return {**made, "runner": wire.open("runner").run(call("hello", {"name": "Ada"})).id}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_right_scope_opens_the_door(wire: Wire, jobs: Mapping[str, str], operation: str) -> None:
    row = TABLE[operation]
    for who in row.right + row.of_all:
        row.do(wire.session(who), jobs["ada"])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_wrong_scope_does_not(wire: Wire, jobs: Mapping[str, str], operation: str) -> None:
    row = TABLE[operation]
    assert row.wrong or operation == "info"
    for who in row.wrong:
        with pytest.raises(Forbidden) as refused:
            row.do(wire.session(who), jobs.get(who, jobs["ada"]))
        assert "scope" in refused.value.message
        assert wire.session(who).info().node  # the session goes on


@pytest.mark.parametrize("operation", ON_JOBS)
def test_someone_else_s_job_is_out_of_reach(wire: Wire, jobs: Mapping[str, str], operation: str) -> None:
    row = TABLE[operation]
    for who in row.other:
        with pytest.raises(Forbidden, match="someone else"):
            row.do(wire.session(who), jobs["ada"])
        if who in ("bob",):
            row.do(wire.session(who), jobs[who])


def test_a_scope_for_one_script_is_for_no_other(wire: Wire) -> None:
    runner = wire.session("runner")
    for script in ("nothing", "hello2", "Hello", "hello ", "reports/hello", "hello\0", "hello\n", "no/such"):
        for operation in (runner.run, runner.submit):
            with pytest.raises(Forbidden):
                operation(call(script))


def _tampered(token: str) -> str:
    return token[:-1] + ("0" if token[-1] != "0" else "1")


@pytest.fixture(scope="module")
def bad_tokens(wire: Wire) -> Mapping[str, str]:
    """Give a token for each way in which a token can be bad."""
    tokens = Tokens(wire.host.data)
    expired = tokens.new(f"expired.{wire.name}", ["admin"], 0.0)
    revoked = tokens.new(f"revoked.{wire.name}", ["admin"])
    wire.authenticate(Token(revoked)).info()
    tokens.revoke(f"revoked.{wire.name}")
    return {
        "none": "",
        "garbage": "open sesame",
        "not ours": "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
        "hostile": "rr_\r\nX-Admin: 1\0",
        "long": "rr_" + "A" * 5000,
        "wrong checksum": _tampered(wire.token("root")),
        "unknown": new_token(),
        "hash": wire.token("root").encode().hex(),
        "expired": expired,
        "revoked": revoked,
    }


BAD = ("none", "garbage", "not ours", "hostile", "long", "wrong checksum", "unknown", "hash", "expired", "revoked")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_token_opens_nothing(
    wire: Wire, jobs: Mapping[str, str], bad_tokens: Mapping[str, str], kind: str, operation: str
) -> None:
    token = bad_tokens[kind]
    if kind == "revoked":  # by another process: seen within a second
        assert eventually(lambda: _is_refused(wire, token), 1.0)
    with pytest.raises(Unauthenticated) as refused:
        TABLE[operation].do(wire.authenticate(Token(token)), jobs["ada"])
    assert len(token) < 12 or token not in refused.value.message


def _is_refused(wire: Wire, token: str) -> bool:
    try:
        wire.authenticate(Token(token))
    except Unauthenticated:
        return True
    return False


def test_the_bad_tokens_are_all_of_them(bad_tokens: Mapping[str, str]) -> None:
    assert set(bad_tokens) == set(BAD)
    assert not is_well_formed(bad_tokens["wrong checksum"])
    assert is_well_formed(bad_tokens["unknown"])


@pytest.fixture(scope="module", params=["revoked", "expired"])
def lapsed(wire: Wire, request: pytest.FixtureRequest) -> Session:
    """Give a session that was in use when its token was revoked, or expired."""
    tokens, name = Tokens(wire.host.data), f"lapsing.{request.param}.{wire.name}"
    expires = 1.5 if request.param == "expired" else None
    session = wire.authenticate(Token(tokens.new(name, ["admin"], expires)))
    assert session.info().node
    if request.param == "revoked":
        tokens.revoke(name)

    def is_shut() -> bool:
        try:
            session.info()
        except Unauthenticated:
            return True
        return False

    assert eventually(is_shut, 1.0 if request.param == "revoked" else 3.0)
    return session


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_open_session_ends_with_its_token(
    wire: Wire, jobs: Mapping[str, str], lapsed: Session, operation: str
) -> None:
    with pytest.raises(Unauthenticated):
        TABLE[operation].do(lapsed, jobs["ada"])


def test_a_follower_is_cut_off_with_its_token(wire: Wire, gate: object) -> None:
    tokens, name = Tokens(wire.host.data), f"follower.{wire.name}"
    session = wire.authenticate(Token(tokens.new(name, ["admin"])))
    job = wire.session("ada").submit(call("gate", {"path": str(gate)}))
    following = session.events(job.id)
    next(iter(following))
    tokens.revoke(name)

    def is_refused() -> bool:
        try:
            session.info()
        except Unauthenticated:
            return True
        return False

    assert eventually(is_refused, 1.0)
    wire.session("ada").cancel(job.id)
    with pytest.raises(Unauthenticated):
        list(following)
