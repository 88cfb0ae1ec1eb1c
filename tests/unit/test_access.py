"""Tokens, principals and scopes: who may do what, decided in one place."""

from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.access import Access, Principal, Tokens, check_scope, is_well_formed, new_token, write_private
from remoterun.config import PrincipalSettings
from remoterun.errors import ConfigError, Forbidden, Invalid, NotFound, Unauthenticated
from remoterun.service import Mapped, Peer, Token


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path)


def _principal(*scopes: str) -> Principal:
    return Principal("ada", scopes)


def test_a_token_is_a_prefix_256_bits_and_a_checksum() -> None:
    made = {new_token() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"rr_[0-9A-Za-z]{49}", token) for token in made)
    assert all(is_well_formed(token) for token in made)


@given(place=st.integers(3, 51), other=st.sampled_from("0123456789ABCXYZabcxyz"))
def test_a_mistyped_token_is_told_by_its_checksum(place: int, other: str) -> None:
    token = new_token()
    changed = token[:place] + other + token[place + 1 :]
    assert is_well_formed(changed) == (changed == token)


@given(text=st.text(max_size=80) | st.from_regex(r"rr_[0-9A-Za-z]{49}", fullmatch=True))
def test_other_texts_are_no_tokens(text: str) -> None:
    assert not is_well_formed(text)


@pytest.mark.parametrize("around", ["{} ", " {}", "{}\n", "\0{}", "{}x", "x{}"])
def test_a_token_with_something_around_it_is_none(around: str) -> None:
    assert not is_well_formed(around.format(new_token()))


def test_a_credential_never_shows_its_token() -> None:
    token = new_token()
    assert token not in repr(Token(token))
    assert token not in f"{Token(token)}"


def test_a_token_proves_its_principal(tokens: Tokens) -> None:
    token = tokens.new("ada", ["read", "run:reports/*"])
    principal = Access(tokens, {}).authenticate(Token(token))
    assert (principal.name, set(principal.scopes)) == ("ada", {"read", "run:reports/*"})


def test_a_token_made_under_a_running_node_works_at_once(tokens: Tokens) -> None:
    access = Access(tokens, {})
    for number in range(5):
        token = tokens.new(f"new{number}", ["read"])
        assert access.authenticate(Token(token)).name == f"new{number}"


def test_only_the_hash_is_kept(tokens: Tokens, tmp_path: Path) -> None:
    token = tokens.new("ada", ["admin"])
    kept = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert token not in kept
    assert token[3:46] not in kept
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("token", ["", "x", "rr_", "rr_" + "a" * 49, "ü" * 52])
def test_what_is_no_token_is_refused(tokens: Tokens, token: str) -> None:
    with pytest.raises(Unauthenticated, match="no token of remoterun"):
        Access(tokens, {}).authenticate(Token(token))


def test_an_unknown_token_is_refused_and_not_repeated(tokens: Tokens) -> None:
    token = new_token()
    with pytest.raises(Unauthenticated) as refused:
        Access(tokens, {}).authenticate(Token(token))
    assert token not in str(refused.value)


def test_the_hash_of_a_token_is_no_token(tokens: Tokens, tmp_path: Path) -> None:
    tokens.new("ada", ["admin"])
    (entry,) = json.loads((tmp_path / "tokens.json").read_text())
    with pytest.raises(Unauthenticated):
        Access(tokens, {}).authenticate(Token(entry["sha256"]))


def test_a_revoked_token_ends_who_came_in_with_it(tokens: Tokens) -> None:
    token, other = tokens.new("ada", ["admin"]), tokens.new("bob", ["admin"])
    access = Access(tokens, {})
    ada, bob = access.authenticate(Token(token)), access.authenticate(Token(other))
    tokens.revoke("ada")
    access.poll()
    with pytest.raises(Unauthenticated, match="revoked"):
        ada.check_valid()
    bob.check_valid()
    with pytest.raises(Unauthenticated):
        access.authenticate(Token(token))


def test_a_name_that_is_used_again_does_not_revive_the_old_token(tokens: Tokens) -> None:
    access = Access(tokens, {})
    old = tokens.new("ada", ["admin"])
    principal = access.authenticate(Token(old))
    tokens.revoke("ada")
    new = tokens.new("ada", ["read"])
    access.poll()
    with pytest.raises(Unauthenticated):
        principal.check_valid()
    assert access.authenticate(Token(new)).scopes == {"read"}


def test_an_expired_token_is_refused(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tokens.new("ada", ["admin"], 60.0)
    access = Access(tokens, {})
    principal = access.authenticate(Token(token))
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Unauthenticated, match="expired"):
        principal.check_valid()
    with pytest.raises(Unauthenticated, match="expired"):
        access.authenticate(Token(token))


def test_a_rotated_token_overlaps_with_the_new_one(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(tokens, {})
    old = tokens.new("ci", ["run:reports/*"])
    came_in = access.authenticate(Token(old))
    new = tokens.rotate("ci", overlap=60.0, expires=3600.0)
    access.poll()
    for token in (old, new):
        principal = access.authenticate(Token(token))
        assert (principal.name, *principal.scopes) == ("ci", "run:reports/*")
    moment = time.time()
    monkeypatch.setattr(time, "time", lambda: moment + 61)
    with pytest.raises(Unauthenticated, match="expired"):
        access.authenticate(Token(old))
    with pytest.raises(Unauthenticated, match="expired"):
        came_in.check_valid()
    access.authenticate(Token(new))
    tokens.revoke("ci")
    access.poll()
    with pytest.raises(Unauthenticated):
        access.authenticate(Token(new))
    assert tokens.list() == []


def test_rotation_never_lengthens_a_life(tokens: Tokens) -> None:
    tokens.new("ci", ["read"], expires=10.0)
    tokens.rotate("ci", overlap=3600.0)
    first, second = tokens.list()
    assert first.expires is not None
    assert (first.expires - datetime.now(UTC)).total_seconds() <= 10
    assert second.expires is None


def test_what_has_expired_goes_with_the_next_rotation(tokens: Tokens) -> None:
    tokens.new("ci", ["read"])
    tokens.rotate("ci", overlap=0.0)
    tokens.rotate("ci", overlap=3600.0)
    assert len(tokens.list()) == 2
    with pytest.raises(NotFound, match="no token named"):
        tokens.rotate("nobody", overlap=0.0)


def test_a_broken_file_leaves_the_known_tokens_in_force(tokens: Tokens, tmp_path: Path) -> None:
    token = tokens.new("ada", ["admin"])
    access = Access(tokens, {})
    (tmp_path / "tokens.json").write_text("{ broken")
    with pytest.raises(ConfigError, match=r"tokens\.json"):
        access.poll()
    access.authenticate(Token(token)).check_valid()
    with pytest.raises(Unauthenticated):
        access.authenticate(Token(new_token()))


def test_tokens_are_listed_without_themselves(tokens: Tokens) -> None:
    assert tokens.list() == []
    tokens.new("bob", ["run"], 3600.0)
    tokens.new("ada", ["read"])
    ada, bob = tokens.list()
    assert (ada.name, ada.scopes, ada.expires) == ("ada", ("read",), None)
    assert bob.expires is not None
    assert 3590 < (bob.expires - datetime.now(UTC)).total_seconds() <= 3600


def test_many_at_once_lose_no_token(tokens: Tokens) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: tokens.new(f"t{number}", ["read"]), range(40)))
    assert len(tokens.list()) == 40
    access = Access(tokens, {})
    assert [access.authenticate(Token(token)).name for token in made] == [f"t{number}" for number in range(40)]


@pytest.mark.parametrize("name", ["", "-x", "a b", "ü", "a/b", "a" * 65, "a\n"])
def test_names_that_cannot_be(tokens: Tokens, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        tokens.new(name, ["read"])
    assert tokens.list() == []


def test_a_name_is_taken_once(tokens: Tokens) -> None:
    tokens.new("ada", ["read"])
    with pytest.raises(Invalid, match="revoke it first"):
        tokens.new("ada", ["read"])


def test_a_token_needs_a_scope(tokens: Tokens) -> None:
    with pytest.raises(Invalid, match="scope"):
        tokens.new("ada", [])


def test_revoking_what_is_not_there(tokens: Tokens) -> None:
    with pytest.raises(NotFound, match="token list"):
        tokens.revoke("nobody")


@pytest.mark.parametrize(
    "scope", ["read", "read:all", "run", "run:*", "run:reports/*", "run:a[bc]?", "cancel:all", "admin"]
)
def test_scopes_that_exist(scope: str) -> None:
    check_scope(scope)


@pytest.mark.parametrize(
    "scope", ["", "all", "Read", "read:", "run:", "run: x", "cancel", "admin:all", "*", "read\n", "run:a,b"]
)
def test_scopes_that_do_not(scope: str) -> None:
    with pytest.raises(Invalid, match="is no scope"):
        check_scope(scope)


@pytest.mark.parametrize(
    ("scopes", "script", "may"),
    [
        (["run"], "anything/at/all", True),
        (["admin"], "anything", True),
        (["run:hello"], "hello", True),
        (["run:hello"], "hello2", False),
        (["run:hello"], "Hello", False),
        (["run:hello"], "x/hello", False),
        (["run:reports/*"], "reports/daily", True),
        (["run:reports/*"], "reports", False),
        (["run:reports/*"], "reports2/daily", False),
        (["run:a", "run:b"], "b", True),
        (["read", "read:all", "cancel:all"], "hello", False),
        ([], "hello", False),
    ],
)
def test_who_may_run_what(scopes: list[str], script: str, may: bool) -> None:
    principal = _principal(*scopes)
    for _ in range(2):  # the answer is remembered
        assert principal.may_run(script) is may
    if may:
        principal.check_run(script)
    else:
        with pytest.raises(Forbidden, match=f"run:{script}"):
            principal.check_run(script)


@given(names=st.lists(st.text(max_size=10), max_size=30))
def test_nobody_without_a_scope_may_run_anything(names: list[str]) -> None:
    principal = _principal("read", "read:all", "cancel:all")
    assert not any(principal.may_run(name) for name in names)


@pytest.mark.parametrize(
    ("scopes", "own", "other", "everything"),
    [
        ([], False, False, False),
        (["run"], False, False, False),
        (["read"], True, False, False),
        (["read:all"], True, True, True),
        (["cancel:all"], False, False, False),
        (["admin"], True, True, True),
    ],
)
def test_who_may_read_what(scopes: list[str], own: bool, other: bool, everything: bool) -> None:
    principal = _principal(*scopes)
    assert _may(principal.check_read) is own
    assert _may(principal.check_read_job, "ada") is own
    assert _may(principal.check_read_job, "bob") is other
    assert _may(principal.check_read_all) is everything
    assert principal.may_read_all is everything


@pytest.mark.parametrize(
    ("scopes", "own", "other"),
    [
        ([], False, False),
        (["read", "read:all"], False, False),
        (["run:job"], True, False),
        (["run:else"], False, False),
        (["run"], True, False),
        (["cancel:all"], True, True),
        (["admin"], True, True),
    ],
)
def test_who_may_cancel_what(scopes: list[str], own: bool, other: bool) -> None:
    principal = _principal(*scopes)
    assert _may(principal.check_cancel, "ada", "job") is own
    assert _may(principal.check_cancel, "bob", "job") is other


def _may(check: object, *args: str) -> bool:
    try:
        check(*args)  # type: ignore[operator]
    except Forbidden:
        return False
    return True


def test_the_user_of_the_node_and_root_need_no_token(tokens: Tokens) -> None:
    access = Access(tokens, {})
    for uid in {os.geteuid(), 0}:
        principal = access.authenticate(Peer(uid, 0, 1))
        assert principal.name.startswith("unix:")
        principal.check_read_all()
    with pytest.raises(Unauthenticated, match="needs a token"):
        access.authenticate(Peer(os.geteuid() + 12345, 0, 1))


def test_who_the_configuration_names_needs_no_token(tokens: Tokens) -> None:
    access = Access(tokens, {"publisher": PrincipalSettings(scopes=("run:reports/*",))})
    principal = access.authenticate(Mapped("publisher"))
    assert (principal.name, principal.may_run("reports/x"), principal.may_run("x")) == ("publisher", True, False)
    with pytest.raises(Unauthenticated, match=r"\[principals\.other\]"):
        access.authenticate(Mapped("other"))


def test_a_scope_that_the_configuration_invents_is_refused(tokens: Tokens) -> None:
    with pytest.raises(ConfigError, match=r"principals\.publisher"):
        Access(tokens, {"publisher": PrincipalSettings(scopes=("everything",))})


def test_a_private_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("before")
    path.chmod(0o644)
    write_private(path, b"after")
    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
