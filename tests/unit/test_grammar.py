from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun import grammar
from remoterun.errors import Invalid
from remoterun.grammar import Arguments

KEYS = st.text(min_size=1).filter(lambda key: "=" not in key and not key.endswith(":") and key != "--")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Arguments({}, None)),
        (["name=Ada", "times:=3"], Arguments({"name": "Ada", "times": 3}, None)),
        (["name="], Arguments({"name": ""}, None)),
        (["equation=a=b"], Arguments({"equation": "a=b"}, None)),
        (["data:={\"a\": [1, null]}"], Arguments({"data": {"a": [1, None]}}, None)),
        (["tag=a", "tag=b", "tag:=3"], Arguments({"tag": ["a", "b", 3]}, None)),
        (["tag:=[1]", "tag:=[2]"], Arguments({"tag": [[1], [2]]}, None)),
        (["--"], Arguments({}, ())),
        (["--", "--full", "--", "a=b"], Arguments({}, ("--full", "--", "a=b"))),
    ],
)  # fmt: skip
def test_words_become_parameters_or_argv(words: list[str], expected: Arguments) -> None:
    assert grammar.parse(words) == expected


@pytest.mark.parametrize(
    ("word", "field"),
    [("name", "name"), ("=x", "=x"), (":=1", ":=1"), ("n:=", "n"), ("n:={", "n"), ("n:=NaN", "n"), ("n:=Infinity", "n"),
     ("n:=" + "[" * 100_000, "n")],
)  # fmt: skip
def test_a_bad_word_is_named(word: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        grammar.parse([word, "good=1"])
    assert [error.field for error in caught.value.fields] == [field]


def test_every_bad_word_is_named_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        grammar.parse(["a", "b:=x", "c=1"])
    assert [error.field for error in caught.value.fields] == ["a", "b"]


def test_parameters_and_argv_together_are_refused() -> None:
    with pytest.raises(Invalid, match="not both"):
        grammar.parse(["a=1", "--", "x"]).request_fields()


def test_the_fields_are_those_of_a_request() -> None:
    assert grammar.parse(["a=1"]).request_fields() == {"params": {"a": "1"}}
    assert grammar.parse(["--", "x"]).request_fields() == {"args": ("x",)}


@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_json_values_come_back_as_they_were(params: dict[str, Any]) -> None:
    words = [f"{key}:={json.dumps(value)}" for key, value in params.items()]
    assert grammar.parse(words) == Arguments(params, None)


@given(st.dictionaries(KEYS, st.text(), max_size=4))
def test_texts_come_back_as_they_were(params: dict[str, str]) -> None:
    assert grammar.parse(f"{key}={value}" for key, value in params.items()) == Arguments(params, None)


@given(st.lists(st.text(), max_size=5))
def test_any_words_parse_or_are_named_as_invalid(words: list[str]) -> None:
    named: tuple[object, ...] = ()
    parsed = None
    try:
        parsed = grammar.parse(words)
    except Invalid as error:
        named = error.fields
    assert named or (parsed is not None and (parsed.args is not None or all("=" in word for word in words)))
