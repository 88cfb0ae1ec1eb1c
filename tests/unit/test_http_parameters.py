"""From query, form, JSON and bytes to the fields of a job request."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.errors import Invalid, ServiceError
from remoterun_http.answers import HttpError
from remoterun_http.parameters import as_plain, fields_of, job_request, may_be_plain, whole_request

JSON = {b"content-type": b"application/json; charset=utf-8"}
FORM = {b"content-type": b"application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("headers", "query", "body", "expected"),
    [
        ({}, b"", b"", {}),
        (JSON, b"", b"{}", {}),
        (JSON, b"", b'{"a":1}', {"params": {"a": 1}}),
        (JSON, b"b=2", b'{"a":1}', {"params": {"a": 1, "b": "2"}}),
        (FORM, b"", b"a=1&a=2&b=", {"params": {"a": ["1", "2"], "b": ""}}),
        (FORM, b"", b"a=%C3%A9+x", {"params": {"a": "é x"}}),
        ({b"content-type": b"text/plain"}, b"a=1", b"in", {"stdin": "in", "params": {"a": "1"}}),
        ({b"content-type": b"application/octet-stream"}, b"", b"\xff", {"stdin_base64": b"\xff"}),
        ({}, b"", b"in", {"stdin": "in"}),
        ({b"remoterun-timeout": b"1.5"}, b"", b"", {"timeout": 1.5}),
        ({b"idempotency-key": b'"k"', b"traceparent": b"00-x"}, b"", b"", {"key": "k", "trace": "00-x"}),
    ],
)
def test_makes_fields(headers: dict[bytes, bytes], query: bytes, body: bytes, expected: dict[str, Any]) -> None:
    assert fields_of(headers, query, body) == expected


@pytest.mark.parametrize(
    ("headers", "query", "body"),
    [
        (JSON, b"", b"{"),
        (JSON, b"", b"[1]"),
        (JSON, b"", b"\xff"),
        (JSON, b"", b'{"a":' + b"[" * 100_000),
        (JSON, b"a=1", b'{"a":1}'),
        (FORM, b"", b"\xff=1"),
        (FORM, b"", b"%FF=1"),
        (FORM, b"", b'{"a":1}'),
        ({b"remoterun-timeout": b"soon"}, b"", b""),
        ({b"remoterun-timeout": b"nan"}, b"", b""),
        ({b"remoterun-timeout": b"-1"}, b"", b""),
    ],
)
def test_refuses_what_is_malformed(headers: dict[bytes, bytes], query: bytes, body: bytes) -> None:
    with pytest.raises(Invalid):
        fields_of(headers, query, body)


def test_names_every_parameter_that_comes_twice() -> None:
    with pytest.raises(Invalid) as caught:
        fields_of(JSON, b"a=1&b=2", b'{"a":1,"b":2,"c":3}')
    assert [field.field for field in caught.value.fields] == ["a", "b"]


def test_refuses_other_media_types() -> None:
    with pytest.raises(HttpError) as caught:
        fields_of({b"content-type": b"application/xml"}, b"", b"<a/>")
    assert caught.value.status == 415


@given(st.sampled_from([JSON, FORM, {}]), st.binary(max_size=60), st.binary(max_size=200))
def test_garbage_raises_only_refusals(headers: dict[bytes, bytes], query: bytes, body: bytes) -> None:
    try:
        fields = fields_of(headers, query, body)
    except ServiceError:
        return
    assert fields.keys() <= {"params", "stdin", "stdin_base64"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"arg": "a"}, {"args": ("a",)}),
        ({"arg": ["a", "b"]}, {"args": ("a", "b")}),
        ({"args": ["a"], "stdin": "x"}, {"args": ("a",), "stdin": "x"}),
        ({"stdin": ""}, {"args": (), "stdin": ""}),
    ],
)
def test_turns_parameters_into_argv_and_stdin(params: dict[str, Any], expected: dict[str, Any]) -> None:
    assert may_be_plain({"params": params})
    assert as_plain({"params": params}) == expected


@pytest.mark.parametrize("params", [{"args": "a", "arg": "b"}, {"args": [1]}, {"args": {}}, {"stdin": 1}])
def test_refuses_argv_that_is_no_text(params: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        as_plain({"params": params})


def test_other_parameters_are_never_argv() -> None:
    assert not may_be_plain({"params": {"args": [], "name": "x"}})
    assert not may_be_plain({"stdin": "x"})


def test_a_whole_request_is_for_the_script_of_the_path() -> None:
    headers = {b"content-type": b"application/vnd.remoterun.job-request+json"}
    request = whole_request(headers, "a/b", b'{"script":"a/b","args":["x"]}')
    assert request is not None
    assert request.args == ("x",)
    assert whole_request(JSON, "a/b", b"") is None
    with pytest.raises(Invalid):
        whole_request(headers, "a/b", b'{"script":"c"}')


def test_a_bad_job_request_names_its_field() -> None:
    with pytest.raises(Invalid) as caught:
        job_request(b'{"script":"a","args":["x",1]}')
    assert [field.field for field in caught.value.fields] == ["args[1]"]
    for body in (b"", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(Invalid):
            job_request(body)
