"""Parameters of well-known types: one rule of conversion, every bad field named, secrets masked."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.catalog import names, signature, typed
from remoterun.catalog.annotations import Unresolved
from remoterun.catalog.parameters import Parameters, Typed
from remoterun.errors import Invalid

IMPORTS = """\
import datetime
import datetime as dt
import decimal
import pathlib
import typing
import uuid
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union
from uuid import UUID

import annotated_types
import pydantic
from annotated_types import Ge, Len
from pydantic import Field, PositiveInt, SecretStr, StrictInt, StringConstraints, conint
"""


def written_of(arguments: str, head: str = IMPORTS) -> typed.Written:
    tree = signature.parse(f"{head}\ndef main({arguments}): ...\n".encode())
    main = signature.find_main(tree)
    assert main is not None
    return typed.write(main, names.read(tree))


def types_of(arguments: str, head: str = IMPORTS) -> typed.Types:
    return typed.resolve_types(written_of(arguments, head))


def parameters(arguments: str) -> Parameters:
    types = types_of(arguments)
    return Typed(typed.json_schema(written_of(arguments)), types.native, lambda: typed.validator(types))


def check(arguments: str, **params: Any) -> Any:
    return json.loads(parameters(arguments).check(params).params)


def refusals(arguments: str, **params: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        parameters(arguments).check(params)
    return {field.field: field.message for field in caught.value.fields}


@pytest.mark.parametrize(
    ("annotation", "given_", "taken"),
    [
        # A text is converted by the declared type …
        ("int", "3", 3),
        ("int", " 3 ", 3),
        ("int", "123456789012345678901234567890", 123456789012345678901234567890),
        ("float", "2.5", 2.5),
        ("float", "3", 3.0),
        ("bool", "yes", True),
        ("bool", "true", True),
        ("bool", "0", False),
        ("Optional[int]", "3", 3),
        ("int | None", "3", 3),
        ("int | float", "2.5", 2.5),
        ("PositiveInt", "3", 3),
        ("Annotated[int, Field(ge=1)]", "3", 3),
        ("Optional[Annotated[int, Field(ge=1)]]", "3", 3),
        # … except where a text is what is declared, or nothing is
        ("str", "3", "3"),
        ("str | None", "null", "null"),
        ("int | str", "3", "3"),
        ("Literal['1', 2]", "1", "1"),
        ("Literal[1, 2]", "1", 1),
        ("Literal[True]", "true", True),
        ("Optional[Literal[1]]", "1", 1),
        ("list[Literal[1]]", "1", [1]),
        ("Any", "3", "3"),
        ("object", "[1]", "[1]"),
        # Arrays and objects are read as JSON; what is no JSON array is the one element
        ("list[int]", "[1, 2]", [1, 2]),
        ("list[int]", '["1", 2]', [1, 2]),
        ("list[int]", "3", [3]),
        ("list[str]", "a", ["a"]),
        ("list[str]", "3", ["3"]),
        ("list[str]", "[broken", ["[broken"]),
        ("list[str]", '{"a": 1}', ['{"a": 1}']),
        ("list[str]", "", [""]),
        ("list", "[1, null]", [1, None]),
        ("Optional[list[int]]", "3", [3]),
        ("Optional[list[int]]", "null", None),
        ("list[int] | int", "3", 3),
        ("list[int] | int", "[3]", [3]),
        ("dict[str, int]", '{"a": "1"}', {"a": 1}),
        ("dict", '{"a": "1"}', {"a": "1"}),
        ("Sequence[int]", "[1]", [1]),
        ("Mapping[str, int]", '{"a": 1}', {"a": 1}),
        # JSON values pass
        ("int", 3, 3),
        ("int", 3.0, 3),
        ("float", 3, 3.0),
        ("bool", False, False),
        ("str", "", ""),
        ("Optional[int]", None, None),
        ("list[dict[str, int | None]]", [{"a": None}], [{"a": None}]),
        ("Any", {"a": [1, "x", None]}, {"a": [1, "x", None]}),
        ("str", "\x00\u2028😀", "\x00\u2028😀"),
    ],
)
def test_native_values_are_converted_once_and_passed_on(annotation: str, given_: Any, taken: Any) -> None:
    assert types_of(f"x: {annotation}").native
    value = check(f"x: {annotation}", x=given_)["x"]
    assert value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize(
    ("annotation", "given_", "taken"),
    [
        ("date", "2026-11-01", "2026-11-01"),
        ("datetime.datetime", "2026-11-01T12:00:00Z", "2026-11-01T12:00:00Z"),
        ("dt.time", "12:30", "12:30"),
        ("timedelta", "PT30S", "PT30S"),
        ("Decimal", "1.10", "1.10"),
        ("decimal.Decimal", 1.5, 1.5),
        ("UUID", "12345678123456781234567812345678", "12345678123456781234567812345678"),
        ("pathlib.Path", "/srv", "/srv"),
        ("bytes", "abc", "abc"),
        ("list[date]", "2026-11-01", ["2026-11-01"]),
        ("set[int]", "[1, 1]", [1, 1]),
        ("Tuple[int, str]", '[1, "a"]', [1, "a"]),
        ("tuple[int, ...]", "3", [3]),
        ("dict[int, str]", '{"1": "a"}', {"1": "a"}),
        ("frozenset[str]", "a", ["a"]),
    ],
)
def test_other_values_are_validated_and_made_in_the_worker(annotation: str, given_: Any, taken: Any) -> None:
    assert not types_of(f"x: {annotation}").native
    assert check(f"x: {annotation}", x=given_) == {"x": taken}


@pytest.mark.parametrize(
    ("annotation", "bad"),
    [
        ("int", "three"),
        ("int", "3.5"),
        ("int", None),
        ("int", [3]),
        ("float", "nan"),
        ("float", "inf"),
        ("float", float("inf")),
        ("bool", "perhaps"),
        ("str", 3),
        ("str", None),
        ("str", "\ud800"),
        ("Any", "\ud800"),
        ("Optional[int]", ""),
        ("Optional[int]", "null"),
        ("list[int]", "a"),
        ("list[int]", '{"a": 1}'),
        ("list[int]", 3),
        ("dict[str, int]", "a"),
        ("dict[str, int]", "[1]"),
        ("Literal['a', 'b']", "c"),
        ("StrictInt", "3"),
        ("conint(gt=3)", "3"),
        ("pydantic.conint(gt=3)", "3"),
        ("Annotated[int, Field(ge=1, description='how many')]", 0),
        ("Annotated[int, Ge(1)]", 0),
        ("Annotated[int, annotated_types.Interval(ge=1, le=3)]", 4),
        ("Annotated[list[int], Len(2, 3)]", "[1]"),
        ("Annotated[str, StringConstraints(pattern='^a+$')]", "b"),
        ("Annotated[str, Field(max_length=2)]", "abc"),
        ("date", "tomorrow"),
        ("UUID", "x"),
        ("Decimal", "x"),
        ("timedelta", "soon"),
    ],
)
def test_what_does_not_fit_is_refused(annotation: str, bad: Any) -> None:
    with pytest.raises(Invalid):
        parameters(f"x: {annotation}").check({"x": bad})


def test_every_bad_field_is_named_with_its_path() -> None:
    found = refusals(
        "name: str, times: int = 1, items: list[dict[str, int]] = [], either: int | bool = 0",
        times="often",
        items=[{"a": 1}, {"price": "x"}],
        either="x",
        tiems=1,
    )
    assert found.keys() == {"name", "times", "items.1.price", "either", "tiems"}
    assert found["name"] == "it is required"
    assert found["tiems"] == "there is no such parameter; there are name, times, items, either"


def test_many_bad_fields_make_a_bounded_answer() -> None:
    with pytest.raises(Invalid) as caught:
        parameters("x: int").check({f"p{number}": 1 for number in range(5000)})
    assert len(caught.value.fields) == 100
    assert len(caught.value.message) < 2000


def test_a_long_unknown_name_makes_a_bounded_answer() -> None:
    with pytest.raises(Invalid) as caught:
        parameters("x: int").check({"p" * 100_000: 1})
    assert len(caught.value.message) < 2000


def test_only_what_was_given_is_passed_on() -> None:
    assert check("name: str, times: int = 1, day: str | None = None", name="Ada") == {"name": "Ada"}
    assert check("") == {}


def test_what_the_caller_gave_is_left_as_it_is() -> None:
    given_ = {"x": "[1]", "y": {"z": "3"}}
    parameters("x: list[int], y: dict[str, int]").check(given_)
    assert given_ == {"x": "[1]", "y": {"z": "3"}}


@pytest.mark.parametrize(
    "name",
    ["_x", "__x", "model_config", "model_fields", "json", "schema", "class_", "self", "cls", "copy", "dict", "größe"],
)
def test_a_parameter_may_have_any_name(name: str) -> None:
    assert check(f"{name}: int", **{name: "3"}) == {name: 3}
    assert refusals(f"{name}: int", **{name: "x"}).keys() == {name}


@pytest.mark.parametrize("name", ["__class__", "", "a.b", "x\0", "constructor", "$ref", "properties"])
def test_an_unknown_name_is_refused_whatever_it_is(name: str) -> None:
    assert refusals("x: int = 0", **{name: 1}).keys() == {name}


def test_keyword_arguments_take_further_names() -> None:
    assert check("x: int, **more", x="1", y="2", z=[1]) == {"x": 1, "y": "2", "z": [1]}
    assert check("x: int, **more: int", x="1", y="2") == {"x": 1, "y": 2}
    assert refusals("**more: float", y="nan").keys() == {"y"}
    assert refusals("**more: None", y=1).keys() == {"y"}
    assert check("**more: None", y=None) == {"y": None}
    assert check("**more: list[int]", y="[2]", z="3") == {"y": [2], "z": [3]}
    assert check("x: str, **more: list[int]", x="[1]", y="[2]") == {"x": "[1]", "y": [2]}
    assert refusals("x: int, **more: int", x="a", y="b", z=1).keys() == {"x", "y"}


def test_without_annotations_everything_stays_as_it_is() -> None:
    assert types_of("a, b=3").native
    assert check("a, b=3", a="3", b=[1]) == {"a": "3", "b": [1]}
    assert refusals("a, b=3").keys() == {"a"}


SECRET = "canary-5d1f"


@pytest.mark.parametrize(
    ("annotation", "given_", "masked"),
    [
        ("SecretStr", SECRET, "**********"),
        ("Optional[SecretStr]", SECRET, "**********"),
        ("Optional[SecretStr]", None, None),
        ("list[SecretStr]", f'["{SECRET}"]', ["**********"]),
        ("list[SecretStr]", SECRET, ["**********"]),
        ("dict[str, SecretStr]", {"a": SECRET}, {"a": "**********"}),
        ("Annotated[SecretStr, Field(min_length=3)]", SECRET, "**********"),
        ("tuple[str, SecretStr]", ["a", SECRET], ["a", "**********"]),
        ("SecretStr | list[SecretStr]", [SECRET], "**********"),
        ("pydantic.SecretBytes", SECRET, "**********"),
    ],
)
def test_secrets_reach_the_worker_and_no_record(annotation: str, given_: Any, masked: Any) -> None:
    checked = parameters(f"plain: str, x: {annotation}").check({"plain": "p", "x": given_})
    assert json.loads(checked.masked) == {"plain": "p", "x": masked}
    assert checked.has_secrets is (given_ is not None)
    assert (SECRET in checked.params.decode()) is (given_ is not None)


@pytest.mark.parametrize(
    ("annotation", "given_"),
    [
        ("Annotated[SecretStr, Field(min_length=30)]", SECRET),
        ("SecretStr", {"a": SECRET}),
        ("list[SecretStr]", {"a": SECRET}),
        ("int", SECRET),
        ("date", SECRET),
        ("UUID", SECRET),
        ("Literal['a']", SECRET),
        ("list[int]", [SECRET]),
        ("Annotated[str, Field(pattern='^x$')]", SECRET),
    ],
)
def test_no_message_repeats_a_value(annotation: str, given_: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parameters(f"x: {annotation}").check({"x": given_})
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.fields)


def test_without_secrets_records_are_what_the_worker_gets() -> None:
    checked = parameters("x: int").check({"x": 1})
    assert checked.masked is checked.params
    assert not checked.has_secrets


def test_a_schema_says_what_a_form_needs() -> None:
    schema = typed.json_schema(
        written_of(
            "x: Annotated[int, Field(ge=1, description='d')], k: Literal['a', 'b'] = 'a', **more: Decimal | None"
        )
    )
    assert schema["additionalProperties"].keys() == {"anyOf"}
    assert schema | {"additionalProperties": ...} == {
        "type": "object",
        "properties": {
            "x": {"type": "integer", "minimum": 1, "description": "d"},
            "k": {"type": "string", "enum": ["a", "b"]},
        },
        "required": ["x"],
        "additionalProperties": ...,
    }


def test_a_schema_belongs_to_one_script() -> None:
    first, second = typed.json_schema(written_of("x: int")), typed.json_schema(written_of("x: int"))
    first["properties"]["x"]["description"] = "mine"
    assert second["properties"]["x"] == {"type": "integer"}


def test_what_an_annotation_means_depends_on_the_imports() -> None:
    assert typed.json_schema(written_of("x: T", "from uuid import UUID as T"))["properties"]["x"]["format"] == "uuid"
    assert (
        typed.json_schema(written_of("x: T", "from datetime import date as T"))["properties"]["x"]["format"] == "date"
    )


@pytest.mark.parametrize("annotation", ["'int'", "'list[int]'", "list['int']", "'Optional[int]'"])
def test_an_annotation_may_be_a_text(annotation: str) -> None:
    types_of(f"x: {annotation}")


@pytest.mark.parametrize(
    "annotation",
    [
        "Model",
        "os.PathLike",
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "Annotated[int, Model()]",
        "Annotated[int, Field(default_factory=list)]",
        "Annotated[int, Field(**{'ge': 1})]",
        "Annotated[int, Field(ge=x)]",
        "Literal[Color.red]",
        "list[int, int, int].x",
        "lambda: int",
        "'int; evil()'",
        "[int]",
        "int if 1 else str",
        "3",
        "dict[int]",
        "list[int, int]",
        "Annotated[int]",
        "Optional",
        "pydantic.BaseModel",
        "pydantic.Json",
    ],
)
def test_anything_else_is_left_to_the_scripts_own_process(annotation: str) -> None:
    with pytest.raises(Unresolved):
        types_of(f"x: {annotation}")


def test_a_constraint_that_does_not_fit_its_type_is_left_to_the_scripts_own_process() -> None:
    with pytest.raises(Unresolved):
        typed.json_schema(written_of("x: Annotated[str, Field(pattern='(')]"))


@pytest.mark.parametrize(
    "head",
    [
        "from elsewhere import date",
        "from .datetime import date",
        "from datetime import date\nclass date: ...",
        "from datetime import date\nfrom elsewhere import date",
        "from datetime import date\ndate = str",
        "from datetime import date\nif 1:\n    date = str",
        "from datetime import date\ntry:\n    from elsewhere import date\nexcept ImportError:\n    pass",
        "from datetime import date\ndef f():\n    global date\n    date = str",
        "from datetime import date\nfor date in []: pass",
        "from datetime import date\nwith x as date: pass",
        "from datetime import date\n(date := 3)",
        "import datetime as date",
        "",
    ],
)
def test_a_name_that_may_stand_for_something_else_is_left_to_the_scripts_own_process(head: str) -> None:
    with pytest.raises(Unresolved):
        types_of("x: date", textwrap.dedent(head))


@pytest.mark.parametrize(
    "head", ["int = str", "from elsewhere import *", "def int(): ...", "from elsewhere import int"]
)
def test_builtins_may_be_hidden_too(head: str) -> None:
    with pytest.raises(Unresolved):
        types_of("x: int", head)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MANY = parameters(
    "a: int = 0, b: list[int] = [], c: Optional[dict[str, date]] = None, d: Any = None, e: tuple[int, str] = (1, ''), "
    "f: int | list[str] = 0, g: bool = False, s: list[SecretStr] = []"
)


@given(st.dictionaries(st.sampled_from("abcdefgs") | st.text(), json_values))
def test_any_json_is_taken_or_refused_as_declared(params: dict[str, Any]) -> None:
    try:
        checked = MANY.check(params)
    except Invalid as error:
        assert "params" in error.message or error.fields  # noqa: PT017 - another error than this fails the test
        return
    assert json.loads(checked.params).keys() == params.keys()
    assert json.loads(checked.masked).keys() == params.keys()


@given(st.dictionaries(st.text(min_size=1), st.text().filter(str.isprintable)))
def test_texts_for_unannotated_parameters_arrive_unchanged(params: dict[str, str]) -> None:
    assert json.loads(ANYTHING.check(params).params) == params


ANYTHING = parameters("**anything")
