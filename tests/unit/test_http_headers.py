"""The head of a request: which Host and Origin are taken, what Prefer and Idempotency-Key say."""

from __future__ import annotations

import pytest

from remoterun.errors import Forbidden, Invalid
from remoterun_http.answers import HttpError
from remoterun_http.headers import Hosts, Preference, accepts, bearer, fold, idempotency_key, preference

HOSTS = Hosts(["node.example"], ["https://ops.example"])


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"LOCALHOST:7461",
        b"app.localhost:7461",
        b"127.0.0.1:7461",
        b"[::1]:7461",
        b"192.0.2.7",
        b"node.example:80",
    ],
)
def test_takes_its_own_names_and_any_address(host: bytes) -> None:
    HOSTS.check({b"host": host})


@pytest.mark.parametrize("host", [b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example:7461", b"1.2"])
def test_refuses_other_names_as_misdirected(host: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        HOSTS.check({b"host": host})
    assert caught.value.status == 421


@pytest.mark.parametrize(
    "host", [b"", b"a b", b"user@localhost", b"localhost:99999999", b"localhost/x", b"[::1", b"\xff"]
)
def test_refuses_a_malformed_host(host: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        HOSTS.check({b"host": host})
    assert caught.value.status == 400


def test_refuses_a_missing_host() -> None:
    with pytest.raises(HttpError):
        HOSTS.check({})


@pytest.mark.parametrize("origin", [b"http://localhost:7461", b"https://LOCALHOST:7461", b"https://ops.example"])
def test_takes_its_own_origin_and_those_on_the_list(origin: bytes) -> None:
    HOSTS.check({b"host": b"localhost:7461", b"origin": origin})


@pytest.mark.parametrize("origin", [b"null", b"", b"http://localhost:1", b"http://evil.example", b"http://ops.example"])
def test_refuses_other_origins(origin: bytes) -> None:
    with pytest.raises(Forbidden):
        HOSTS.check({b"host": b"localhost:7461", b"origin": origin})


@pytest.mark.parametrize("name", [b"host", b"authorization", b"content-length", b"idempotency-key", b"origin"])
def test_refuses_a_header_that_cannot_come_twice(name: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        fold([(name, b"a"), (name, b"a")])
    assert caught.value.status == 400


def test_joins_headers_that_are_lists_and_keeps_the_first_of_others() -> None:
    folded = fold([(b"accept", b"a/b"), (b"accept", b"c/d"), (b"x-other", b"1"), (b"x-other", b"2")])
    assert folded == {b"accept": b"a/b, c/d", b"x-other": b"1"}


@pytest.mark.parametrize(
    ("value", "token"),
    [(b"Bearer rr_x", "rr_x"), (b"bearer  rr_x ", "rr_x"), (b"Basic eA==", None), (b"Bearer", None), (b"", None)],
)
def test_finds_the_bearer_token(value: bytes, token: str | None) -> None:
    assert bearer({b"authorization": value}) == token


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"respond-async", Preference(0.0, b"respond-async")),
        (b"wait=10", Preference(10.0, b"wait=10")),
        (b'Respond-Async; x=y, wait="3"', Preference(3.0, b"respond-async, wait=3")),
        (b"wait=-1", None),
        (b"wait=1e9", None),
        (b"return=minimal", None),
        (b",;=", None),
    ],
)
def test_reads_preferences_and_ignores_what_is_malformed(value: bytes, expected: Preference | None) -> None:
    assert preference({b"prefer": value}) == expected


@pytest.mark.parametrize(
    ("value", "key"),
    [(b'"a b"', "a b"), (rb'"a\"b\\"', 'a"b\\'), (b"8e03-x:1", "8e03-x:1"), (b" bare ", "bare")],
)
def test_reads_an_idempotency_key(value: bytes, key: str) -> None:
    assert idempotency_key({b"idempotency-key": value}) == key


@pytest.mark.parametrize("value", [b"", b'""', b'"open', b"a b", b'a"b', b'"a\\b"', b"\xe9"])
def test_refuses_a_malformed_idempotency_key(value: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        idempotency_key({b"idempotency-key": value})
    assert [field.field for field in caught.value.fields] == ["Idempotency-Key"]


def test_accepts_only_what_is_named() -> None:
    kind = b"application/vnd.remoterun.job+json"
    assert accepts({b"accept": b"text/html, " + kind + b";q=1"}, kind)
    assert not accepts({b"accept": b"*/*"}, kind)
    assert not accepts({}, kind)
