"""Describe and validate a `main` whose annotations are well-known types, in the node, without running the file."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NotRequired

import pydantic
from msgspec import Struct
from pydantic import ConfigDict, TypeAdapter, with_config
from pydantic_core import SchemaError
from typing_extensions import TypedDict

from remoterun.catalog.annotations import Unresolved, is_native, resolve
from remoterun.catalog.signature import NO_DEFAULT, Signature

_FINITE = ConfigDict(allow_inf_nan=False)  # JSON has no name for infinity and for what is no number

Validate = Callable[[Any], dict[str, Any]]


class Written(Struct, frozen=True, kw_only=True):
    """The annotations of `main` as they are written: all that is needed to validate, small enough to keep."""

    known: dict[str, str]  # parameter → annotation; empty where there is none
    required: list[str]
    extra: str | None = None  # annotation of **kwargs; None: there is none
    names: dict[str, str]  # what the names in the annotations stand for


@dataclass(frozen=True, slots=True)
class Types:
    """The types of what `main` takes."""

    known: Mapping[str, Any]
    required: frozenset[str]
    extra: Any = None  # of **kwargs; None: there is none

    @property
    def native(self) -> bool:
        """Whether `main` can take the JSON values as they are, once they were validated."""
        return all(map(is_native, self.known.values())) and (self.extra is None or is_native(self.extra))


def write(signature: Signature, names: Mapping[str, str]) -> Written:
    """Take from a signature what `resolve_types` needs.

    Parameters:
        signature: of `main`.
        names: what the names at the file's top level stand for.
    """
    known = {item.name: _text(item.annotation) for item in signature.parameters}
    extra = None if signature.extra is None else _text(signature.extra.annotation)
    text = " ".join([*known.values(), extra or ""])
    return Written(
        known=known,
        required=[item.name for item in signature.parameters if item.default is NO_DEFAULT],
        extra=extra,
        names={name: target for name, target in names.items() if name in text},
    )


def resolve_types(written: Written) -> Types:
    """Give the types that annotations mean.

    Raises:
        Unresolved: only running the file can tell them.
    """
    return Types(
        known={name: resolve(text, written.names) for name, text in written.known.items()},
        required=frozenset(written.required),
        extra=None if written.extra is None else resolve(written.extra, written.names),
    )


def _text(annotation: ast.expr | None) -> str:
    return "" if annotation is None else ast.unparse(annotation)


def json_schema(written: Written) -> dict[str, Any]:
    """Give the JSON Schema of the object of parameters.

    Raises:
        Unresolved: only running the file can tell the types, or one does not fit its bounds.
    """
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _schema_of(text, written.names) for name, text in written.known.items()},
        "additionalProperties": False,
    }
    if written.required:
        schema["required"] = written.required
    if written.extra is not None:
        schema["additionalProperties"] = _schema_of(written.extra, written.names) or True
    return schema


def _schema_of(annotation: str, names: Mapping[str, str]) -> dict[str, Any]:
    used = tuple(item for item in names.items() if item[0] in annotation)
    return dict(_remembered_schema(annotation, used))


# The scripts of a folder share most of their annotations: a thousand are described in half the time.
@lru_cache(maxsize=1024)
def _remembered_schema(annotation: str, names: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    try:
        return TypeAdapter(resolve(annotation, dict(names))).json_schema()
    except (pydantic.PydanticUserError, SchemaError, TypeError, ValueError, RecursionError) as error:
        raise Unresolved(str(error)) from error


def validator(types: Types) -> Validate:
    """Make the function that validates parameters; it raises pydantic.ValidationError."""
    validate = _adapter(types).validator.validate_python
    if types.extra in (None, Any):
        return validate
    known = types.known.keys()
    rest = TypeAdapter(dict[str, types.extra], config=_FINITE).validator.validate_python  # type: ignore[name-defined] # a value

    def validate_both(params: dict[str, Any]) -> dict[str, Any]:
        errors: list[Any] = []
        valid: dict[str, Any] = {}
        for check, names in ((validate, params.keys() & known), (rest, params.keys() - known)):
            try:
                valid.update(check({name: value for name, value in params.items() if name in names}))
            except pydantic.ValidationError as error:
                errors.extend(error.errors(include_url=False))
        if errors:
            raise pydantic.ValidationError.from_exception_data("parameters", errors)
        return valid

    return validate_both


def _adapter(types: Types) -> TypeAdapter[Any]:
    # A TypedDict, as its fields may have any names: a model's must not begin with _ or be called json.
    fields = {name: kind if name in types.required else NotRequired[kind] for name, kind in types.known.items()}
    parameters = TypedDict("parameters", fields)  # type: ignore[misc] # known only now
    config: ConfigDict = {**_FINITE, "extra": "forbid" if types.extra is None else "allow"}
    return TypeAdapter(with_config(config)(parameters))
