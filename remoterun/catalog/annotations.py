"""Turn annotations into types by walking their syntax tree: well-known names only, nothing is evaluated."""

from __future__ import annotations

import ast
import collections.abc
import datetime
import decimal
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Optional, Union

import annotated_types
import pydantic

from remoterun import script

_GENERIC: dict[str, Any] = {
    "builtins.list": list,
    "builtins.dict": dict,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.tuple": tuple,
    "typing.List": list,
    "typing.Dict": dict,
    "typing.Set": set,
    "typing.FrozenSet": frozenset,
    "typing.Tuple": tuple,
    "typing.Sequence": collections.abc.Sequence,
    "typing.Mapping": collections.abc.Mapping,
    "collections.abc.Sequence": collections.abc.Sequence,
    "collections.abc.Mapping": collections.abc.Mapping,
}

_PAIRS = (dict, collections.abc.Mapping)

_PLAIN: dict[str, Any] = {
    "builtins.int": int,
    "builtins.str": str,
    "builtins.float": float,
    "builtins.bool": bool,
    "builtins.bytes": bytes,
    "builtins.object": Any,  # a JSON value is always one
    "typing.Any": Any,
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.time": datetime.time,
    "datetime.timedelta": datetime.timedelta,
    "decimal.Decimal": decimal.Decimal,
    "uuid.UUID": uuid.UUID,
    "pathlib.Path": pathlib.Path,
    **{
        f"pydantic.{name}": getattr(pydantic, name)
        for name in (
            *("SecretStr", "SecretBytes", "StrictInt", "StrictStr", "StrictBool", "StrictFloat", "FiniteFloat"),
            *("PositiveInt", "NegativeInt", "NonNegativeInt", "NonPositiveInt"),
            *("PositiveFloat", "NegativeFloat", "NonNegativeFloat", "NonPositiveFloat"),
            *("AwareDatetime", "NaiveDatetime", "PastDate", "FutureDate", "PastDatetime", "FutureDatetime"),
            *("AnyUrl", "HttpUrl"),
        )
    },
}

# What may be called, with literal arguments, beside a type in Annotated.
_CONSTRAINTS: dict[str, Callable[..., Any]] = {
    **{
        f"annotated_types.{name}": getattr(annotated_types, name)
        for name in ("Ge", "Gt", "Le", "Lt", "Interval", "MultipleOf", "Len", "MinLen", "MaxLen")
    },
    "pydantic.StringConstraints": pydantic.StringConstraints,
}
# What stands beside a type in Annotated as it is, or called without arguments.
_MARKS: dict[str, Any] = {"remoterun.script.Upload": script.Upload}
_FIELD_ARGUMENTS = frozenset(
    {"ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern", "description", "examples"}
    | {"max_digits", "decimal_places", "strict", "title"}
)
_TYPE_CALLS: dict[str, Callable[..., Any]] = {
    f"pydantic.{name}": getattr(pydantic, name) for name in ("conint", "confloat", "constr", "condecimal")
}

_NATIVE_TYPES = frozenset({str, int, float, bool, type(None), list, dict, Any, types.NoneType})
_NATIVE_METADATA = (annotated_types.BaseMetadata, annotated_types.GroupedMetadata, pydantic.Strict)


class Unresolved(Exception):
    """The annotation is none of the well-known ones: only running the file can tell what it means."""


def resolve(annotation: str, names: Mapping[str, str]) -> Any:
    """Give the type that an annotation means; `Any` where it is empty.

    Parameters:
        annotation: as it is written.
        names: what the names in it stand for.

    Raises:
        Unresolved: it is none of the well-known ones.
    """
    if not annotation:
        return Any
    try:
        return _Resolver(names).type_of(_parse(annotation))
    except (TypeError, ValueError, pydantic.PydanticUserError, RecursionError) as error:
        raise Unresolved(str(error)) from error


def is_native(kind: Any) -> bool:
    """Whether `main` can take the JSON value as it is, once it was validated."""
    origin = typing.get_origin(kind)
    if origin is None:
        return kind in _NATIVE_TYPES
    arguments = typing.get_args(kind)
    if origin is Annotated:
        return is_native(arguments[0]) and all(map(_is_native_metadata, arguments[1:]))
    if origin is Literal:
        return True
    if origin in (Union, types.UnionType, list, collections.abc.Sequence):
        return all(map(is_native, arguments))
    if origin in _PAIRS:
        return arguments[0] is str and is_native(arguments[1])
    return False


def _is_native_metadata(metadata: Any) -> bool:
    # Field() and StringConstraints only narrow a JSON value, or change it to another: `check` passes on what came out.
    return isinstance(metadata, (*_NATIVE_METADATA, pydantic.fields.FieldInfo, pydantic.StringConstraints))


class _Resolver:
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def type_of(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=None):
                return type(None)
            case ast.Constant(value=str(text)):
                return self.type_of(_parse(text))
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return Union[self.type_of(left), self.type_of(right)]  # noqa: UP007 - both are values here
            case ast.Name() | ast.Attribute():
                name = self._name_of(node)
                return _PLAIN[name] if name in _PLAIN else _lookup(_GENERIC, name)
            case ast.Subscript(value=value, slice=inner):
                return self._subscribed(self._name_of(value), inner)
            case ast.Call():
                return self._called(node, _TYPE_CALLS)
        raise Unresolved(ast.dump(node))

    def _subscribed(self, name: str, inner: ast.expr) -> Any:
        items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        match name:
            case "typing.Optional":
                return Optional[self.type_of(inner)]  # noqa: UP045 - it is a value here
            case "typing.Union":
                return Union[tuple(map(self.type_of, items))]  # noqa: UP007 - the same
            case "typing.Literal":
                return Literal[tuple(map(_literal, items))]
            case "typing.Annotated":
                base, *metadata = items
                return Annotated[(self.type_of(base), *map(self._metadata, metadata))]
        generic = _lookup(_GENERIC, name)
        if generic is not tuple and len(items) != (2 if generic in _PAIRS else 1):
            raise Unresolved(f"{name} with {len(items)} arguments")
        return generic[tuple(... if _is_ellipsis(item) else self.type_of(item) for item in items)]

    def _metadata(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value  # a note to readers
        if isinstance(node, (ast.Name, ast.Attribute)):
            return _lookup(_MARKS, self._name_of(node))
        if not isinstance(node, ast.Call):
            raise Unresolved(ast.dump(node))
        if not node.args and not node.keywords and (name := self._name_of(node.func)) in _MARKS:
            return _MARKS[name]
        if self._name_of(node.func) == "pydantic.Field":
            if node.args or not all(keyword.arg in _FIELD_ARGUMENTS for keyword in node.keywords):
                raise Unresolved("Field with an argument that is not well-known")
            return pydantic.Field(**_keywords(node))
        return self._called(node, _CONSTRAINTS)

    def _called(self, node: ast.Call, callables: Mapping[str, Callable[..., Any]]) -> Any:
        function = _lookup(callables, self._name_of(node.func))
        return function(*map(_literal, node.args), **_keywords(node))

    def _name_of(self, node: ast.expr) -> str:
        """Give the dotted name that a name or an attribute stands for."""
        if isinstance(node, ast.Name) and node.id in self._names:
            name = self._names[node.id]
            return "typing" + name.removeprefix("typing_extensions") if name.startswith("typing_extensions") else name
        if isinstance(node, ast.Attribute):
            return f"{self._name_of(node.value)}.{node.attr}"
        raise Unresolved(ast.dump(node))


def _lookup(table: Mapping[str, Any], name: str) -> Any:
    try:
        return table[name]
    except KeyError as error:
        raise Unresolved(name) from error


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError) as error:
        raise Unresolved(text) from error


def _keywords(node: ast.Call) -> dict[str, Any]:
    if not all(keyword.arg for keyword in node.keywords):
        raise Unresolved("**arguments")
    return {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}


def _literal(node: ast.expr) -> Any:
    return ast.literal_eval(node)


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
