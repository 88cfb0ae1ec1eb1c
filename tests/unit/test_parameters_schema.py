"""Parameters that only the script's own process can describe: converted and refused as the others are."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.catalog.parameters import Checked
from remoterun.catalog.schemed import Schemed
from remoterun.errors import Invalid
from remoterun.workers import describe

SCRIPT = """
import datetime as dt
import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID
from pydantic import BaseModel, Field, Secret, SecretStr

class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"

class Item(BaseModel):
    name: str = Field(min_length=2)
    price: float = Field(gt=0, default=1)
    secret: SecretStr | None = None
    key: SecretStr = Field(default="", alias="apiKey")
    parts: list["Item"] = []

@dataclass
class Point:
    x: int
    y: int = 0

def main(
    item: Item = None, items: list[Item] = [], point: Point = None, color: Color = Color.RED, n: int = 0,
    f: float = 0, b: bool = False, s: str = "", day: dt.date = None, at: dt.datetime = None, span: dt.timedelta = None,
    id: UUID = None, maybe: Optional[int] = None, either: Union[int, list[int]] = 0, any: Any = None,
    pair: tuple[int, str] = None, amount: Decimal = 0, level: Literal["low", "high"] = "low", pin: Secret[int] = 0,
    few: Annotated[list[int], Field(max_length=2)] = [], map: dict[str, int] = {}, names: set[str] = set(),
    vault: Secret[Item] = None, pins: Secret[Optional[int]] = None, home: Optional[Secret[Point]] = None,
    code: Annotated[str, Field(pattern="^a+$")] = "a",
): ...
"""


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> Schemed:
    return Schemed(schema_of(SCRIPT, tmp_path_factory.mktemp("scripts")))


def schema_of(text: str, folder: Path) -> dict[str, Any]:
    import sys
    import threading

    from remoterun.catalog.importing import describe as in_a_process

    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return in_a_process(str(path), path, sys.executable, {}, threading.Event()).schema


def check(parameters: Schemed, **params: Any) -> Any:
    return json.loads(parameters.check(params).params)


@pytest.mark.parametrize(
    ("name", "given_", "taken"),
    [
        ("n", "3", 3),
        ("n", 3.0, 3),
        ("f", "2.5", 2.5),
        ("f", 3, 3),
        ("b", "yes", True),
        ("s", "3", "3"),
        ("any", "3", "3"),
        ("maybe", "3", 3),
        ("maybe", None, None),
        ("either", "3", 3),
        ("either", "[3]", [3]),
        ("color", "red", "red"),
        ("level", "low", "low"),
        ("day", "2026-11-01", "2026-11-01"),
        ("at", "2026-11-01T12:00:00Z", "2026-11-01T12:00:00Z"),
        ("span", "PT30S", "PT30S"),
        ("id", "12345678-1234-5678-1234-567812345678", "12345678-1234-5678-1234-567812345678"),
        ("amount", "1.10", "1.10"),
        ("amount", 1.5, 1.5),
        ("item", '{"name": "ab", "price": "2"}', {"name": "ab", "price": 2.0}),
        (
            "item",
            {"name": "ab", "parts": [{"name": "cd", "price": "3"}]},
            {"name": "ab", "parts": [{"name": "cd", "price": 3.0}]},
        ),
        ("items", '[{"name": "ab"}]', [{"name": "ab"}]),
        ("point", '{"x": "1"}', {"x": 1}),
        ("pair", '["1", "a"]', [1, "a"]),
        ("few", "3", [3]),
        ("few", '["3", "4"]', [3, 4]),
        ("map", '{"a": "1"}', {"a": 1}),
        ("names", "x", ["x"]),
        ("pin", "1234", 1234),
    ],
)
def test_texts_are_converted_by_the_declared_type(parameters: Schemed, name: str, given_: Any, taken: Any) -> None:
    assert check(parameters, **{name: given_}) == {name: taken}


@pytest.mark.parametrize(
    ("params", "refused"),
    [
        ({"n": "x"}, {"n": "it must be an integer"}),
        ({"n": None}, {"n": "it must be an integer"}),
        ({"f": "nan"}, {"f": "it must be a number"}),
        ({"b": "perhaps"}, {"b": "it must be true or false"}),
        ({"s": 3}, {"s": "it must be a text"}),
        ({"maybe": "x"}, {"maybe": "it must be an integer or null"}),
        ({"color": "green"}, {"color": "it must be 'red' or 'blue'"}),
        ({"level": "x"}, {"level": "it must be 'low' or 'high'"}),
        ({"day": "soon"}, {"day": "it must be a date, like 2026-11-01"}),
        ({"id": "x"}, {"id": "it must be a UUID"}),
        ({"item": "x"}, {"item": "it must be a JSON object"}),
        ({"item": {}}, {"item.name": "it is required"}),
        (
            {"item": {"name": "a", "price": 0}},
            {"item.name": "it must have at least 2 characters", "item.price": "it must be greater than 0"},
        ),
        (
            {"items": [{"name": "ab"}, {"name": "ab", "parts": [{"name": 3}]}]},
            {"items.1.parts.0.name": "it must be a text"},
        ),
        ({"few": [1, 2, 3]}, {"few": "it must have at most 2 items"}),
        ({"few": ["x"]}, {"few.0": "it must be an integer"}),
        ({"map": {"a": "x"}}, {"map.a": "it must be an integer"}),
        ({"code": "b"}, {"code": "it must match the pattern ^a+$"}),
        ({"n": "x", "f": "y", "zz": 1}, {"n": "it must be an integer", "f": "it must be a number", "zz": ...}),
    ],
)
def test_every_bad_field_is_named(parameters: Schemed, params: dict[str, Any], refused: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        parameters.check(params)
    found = {field.field: field.message for field in caught.value.fields}
    assert found.keys() == refused.keys()
    for name, message in refused.items():
        assert found[name] == message or (message is ... and found[name].startswith("there is no such parameter"))


SECRET = "canary-5d1f"


@pytest.mark.parametrize(
    ("params", "masked"),
    [
        ({"item": {"name": "ab", "secret": SECRET}}, {"item": {"name": "ab", "secret": "**********"}}),
        ({"item": {"name": "ab", "apiKey": SECRET}}, {"item": {"name": "ab", "apiKey": "**********"}}),
        ({"item": {"name": "ab", "key": SECRET}}, {"item": {"name": "ab", "key": "**********"}}),
        ({"item": {"name": "ab", "secret": None}}, {"item": {"name": "ab", "secret": None}}),
        (
            {"items": [{"name": "ab", "parts": [{"name": "cd", "secret": SECRET}]}]},
            {"items": [{"name": "ab", "parts": [{"name": "cd", "secret": "**********"}]}]},
        ),
        ({"vault": {"name": SECRET}, "n": 1}, {"vault": "**********", "n": 1}),
        ({"pins": 1234}, {"pins": "**********"}),
        ({"home": {"x": 1}}, {"home": "**********"}),
        ({"pin": 1234, "n": 1}, {"pin": "**********", "n": 1}),
    ],
)
def test_secrets_are_masked_wherever_they_are(parameters: Schemed, params: Any, masked: Any) -> None:
    checked: Checked = parameters.check(params)
    assert json.loads(checked.params) == params
    assert json.loads(checked.masked) == masked


@pytest.mark.parametrize(
    "params",
    [
        {"item": SECRET},
        {"item": {"name": "ab", "secret": [SECRET]}},
        {"item": {"name": [SECRET]}},
        {"n": SECRET},
        {"maybe": SECRET},
        {"either": SECRET},
        {"color": SECRET},
        {"day": SECRET},
        {"code": SECRET},
        {"pair": [SECRET, SECRET, SECRET]},
        {"few": [SECRET]},
    ],
)
def test_no_message_repeats_a_value(parameters: Schemed, params: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parameters.check(params)
    assert SECRET not in str(caught.value) + repr(caught.value.fields)
    assert caught.value.__cause__ is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "price", "parts", "x", "secret"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["item", "items", "point", "either", "pair", "any", "map", "pin"]), json_values))
def test_any_json_is_taken_or_refused_as_declared(parameters: Schemed, params: dict[str, Any]) -> None:
    try:
        checked = parameters.check(params)
    except Invalid as error:
        assert error.message  # noqa: PT017 - another error than this fails the test
        return
    assert json.loads(checked.masked).keys() == params.keys()


def test_keyword_arguments_have_a_schema(tmp_path: Path) -> None:
    text = "class Model(__import__('pydantic').BaseModel):\n    x: int\ndef main(**more: Model): ...\n"
    schema = schema_of(text, tmp_path)
    assert check(Schemed(schema), a='{"x": "1"}') == {"a": {"x": 1}}
    with pytest.raises(Invalid):
        Schemed(schema).check({"a": {"x": "y"}})


def test_the_summary_of_an_error_is_one_line() -> None:
    assert describe.summary(ValueError("a\nb")) == "ValueError: a"
    assert len(describe.summary(ValueError("a" * 10_000))) == 500


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("name", ["any", "items", "n"])
@pytest.mark.parametrize("value", [nested(900), "\ud800", ["\ud800"], {"\ud800": 1}, 2**70, "[" * 5000])
def test_extreme_values_are_taken_or_refused(parameters: Schemed, name: str, value: Any) -> None:
    try:
        checked = parameters.check({name: value})
    except Invalid:
        return
    assert json.loads(checked.params).keys() == {name}
