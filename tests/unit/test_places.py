"""Where files stand among parameters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.errors import Invalid
from remoterun.places import Place, find_place, has_uploads, put_names, takes_files, unsent

FILE = {"type": "string", "format": "upload"}
TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "one": FILE,
        "many": {"type": "array", "items": FILE},
        "maybe": {"anyOf": [FILE, {"type": "null"}]},
        "either": {"anyOf": [FILE, TEXT]},
        "pair": {"type": "array", "prefixItems": [TEXT, FILE]},
        "page": {"$ref": "#/$defs/Page"},
        "pages": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Page"}}, {"type": "null"}]},
        "text": TEXT,
        "a.b": FILE,
    },
    "additionalProperties": False,
    "$defs": {
        "Page": {
            "type": "object",
            "properties": {"scan": FILE, "next": {"anyOf": [{"$ref": "#/$defs/Page"}, {"type": "null"}]}},
        }
    },
}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("one", ("one",)),
        ("many", ("many", 0)),
        ("many.7", ("many", 7)),
        ("maybe", ("maybe",)),
        ("pair.1", ("pair", 1)),
        ("page.scan", ("page", "scan")),
        ("page.next.next.scan", ("page", "next", "next", "scan")),
        ("pages.3.scan", ("pages", 3, "scan")),
        ("a.b", ("a.b",)),
    ],
)
def test_a_path_means_a_place(path: str, place: tuple[str | int, ...]) -> None:
    assert find_place(path, SCHEMA) == place


@pytest.mark.parametrize(
    "path",
    ["", ".", "none", "text", "one.0", "one.x", "many.x", "many.1.2", "many.-1", "many.1000", "many.٣", "pair.0",
     "pair", "page", "page.none", "pages.0", "pages.scan", "many." + "9" * 5000, "x." * 5000],
)  # fmt: skip
def test_no_other_path_means_anything(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        find_place(path, SCHEMA)
    assert len(caught.value.fields[0].field) <= 200


@given(st.text(), st.recursive(st.just(FILE), lambda inner: st.fixed_dictionaries({"anyOf": st.lists(inner)})))
def test_garbage_raises_only_refusals(path: str, schema: Any) -> None:
    try:
        find_place(path, {"type": "object", "properties": {"a": schema}, "additionalProperties": schema})
    except Invalid:
        return


def test_parameters_that_take_files_are_known() -> None:
    names = [name for name in SCHEMA["properties"] if takes_files(name, SCHEMA)]
    assert names == ["one", "many", "maybe", "either", "a.b"]
    assert has_uploads(SCHEMA)
    assert not has_uploads({"type": "object", "properties": {"text": TEXT}})
    assert takes_files("any", {"type": "object", "additionalProperties": FILE})


def test_names_are_put_in_their_places() -> None:
    given_ = {"page": {"title": "t"}, "many": [""], "text": "x"}
    names = {("one",): "a", ("many", 0): "b", ("many", 2): "c", ("page", "scan"): "d"}
    filled = put_names(given_, names)
    assert filled == {"one": "a", "many": ["b", None, "c"], "page": {"title": "t", "scan": "d"}, "text": "x"}
    assert given_ == {"page": {"title": "t"}, "many": [""], "text": "x"}
    assert put_names(filled, {("one",): "a"}) == filled


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ({"one": "b"}, ("one",)),
        ({"many": "b"}, ("many", 0)),
        ({"many": {"0": "b"}}, ("many", 0)),
        ({"page": ["b"]}, ("page", "scan")),
    ],
)
def test_nothing_else_stands_in_a_files_place(params: dict[str, Any], place: tuple[str | int, ...]) -> None:
    with pytest.raises(Invalid):
        put_names(params, {place: "a"})


def test_a_name_without_a_file_is_found_wherever_it_stands() -> None:
    params = {
        "one": "/etc/passwd",
        "many": ["a", "b"],
        "maybe": None,
        "either": "a text",
        "pair": ["a text", "/etc/passwd"],
        "page": {"scan": "a", "next": {"scan": "/etc/passwd"}},
        "pages": [{"scan": "/etc/passwd"}],
        "text": "x",
    }
    sent: frozenset[Place] = frozenset({("many", 1), ("page", "scan")})
    found = [error.field for error in unsent(params, SCHEMA, sent)]
    assert found == ["one", "many.0", "pair.1", "page.next.scan", "pages.0.scan"]
