"""Values between JSON and Python, inside a worker; standard library only (pydantic where the script has it).

What `main` returns becomes JSON so: dataclasses and pydantic models are objects; dates, times, UUIDs, paths and
decimals are texts; a timedelta is a number of seconds; an enum is its value; bytes are base64; sets, tuples,
generators and other iterators are arrays. What says how it looks (`_repr_png_`, `_repr_html_`, `_repr_markdown_`, as
figures, pictures and tables do) is also left as files. Anything else, a NaN among it, is refused with the value's path.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Exhibit = Callable[[Any, str], tuple[list[str], Any]]
"""Writes what a value looks like into files: gives their names, and the value's own JSON form or None."""

_JSON = frozenset({type(None), bool, int, float, str, list, dict})
_LOOKS = ("_repr_png_", "_repr_html_", "_repr_markdown_")
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Unencodable(Exception):
    """A result is no JSON; the text names the value's path."""


class InvalidParameters(Exception):
    """The script's own types refused parameters; `fields` names each."""

    def __init__(self, fields: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{field['field']}: {field['message']}" for field in fields))
        self.fields = fields


def encode(value: Any, exhibit: Exhibit | None = None) -> bytes:
    """Encode a result as JSON.

    Parameters:
        exhibit: for what is worth looking at; None: there is nowhere to put files.

    Raises:
        Unencodable: some part of it has no JSON form.
    """
    if type(value) in _JSON or not _has_looks(value):
        try:
            return _dump(value)
        except (TypeError, ValueError, RecursionError):
            pass
    return _dump_known(_plain(value, "result", 0, exhibit))


def _has_looks(value: Any) -> bool:
    kind = type(value)
    return any(hasattr(kind, name) for name in _LOOKS)


def _dump(value: Any) -> bytes:
    return _encoder.encode(value).encode()


def _dump_known(value: Any) -> bytes:
    try:
        return _dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unencodable(f"the result cannot be written as JSON: {error}") from error


def _plain(value: Any, path: str, depth: int, exhibit: Exhibit | None) -> Any:
    """Give a value in JSON's own types, or say where it has none."""
    if depth > 200:
        raise Unencodable(f"{path[:200]} is nested too deeply, or contains itself")
    names: list[str] = []
    if exhibit is not None and _has_looks(value):
        names, form = _exhibited(value, path, exhibit)
        if form is not None:
            return _plain(form, path, depth + 1, None)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Unencodable(f"{path} is a text that is no Unicode: {error.reason}") from error
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise Unencodable(f"{path} is {value}, which JSON does not have")
        return value
    if isinstance(value, dict):
        return {_key(key, path): _plain(item, f"{path}.{key}", depth + 1, exhibit) for key, item in value.items()}
    converted = _converted_leaf(value)
    if converted is not value:
        return _plain(converted, path, depth + 1, exhibit)
    if names and not isinstance(value, (list, tuple)):
        return {"artifacts": names}
    if hasattr(value, "__iter__"):
        return [_plain(item, f"{path}[{index}]", depth + 1, exhibit) for index, item in enumerate(value)]
    raise Unencodable(f"{path} is a {type(value).__name__}, which has no JSON form; return plain values")


def _exhibited(value: Any, path: str, exhibit: Exhibit) -> tuple[list[str], Any]:
    try:
        return exhibit(value, path)
    except Exception as error:  # the value's own methods may raise anything
        raise Unencodable(f"{path} cannot be shown: {type(error).__name__}: {error}") from error


def _key(key: Any, path: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, (int, float)) or key is None:
        text: str = json.dumps(key)
        return text
    converted = _converted_leaf(key)
    if isinstance(converted, (str, int)):
        return str(converted)
    raise Unencodable(f"{path} has a key that is a {type(key).__name__}; keys must be texts")


def _converted_leaf(value: Any) -> Any:
    """Convert one known object, without importing the module that its type is from."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        import base64

        return base64.b64encode(value).decode()
    if isinstance(value, type):
        return value
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "model_dump") and hasattr(value, "model_fields_set"):
        return value.model_dump(mode="json")
    if hasattr(value, "_asdict"):  # a named tuple
        return value._asdict()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    if hasattr(value, "_value_") and hasattr(type(value), "__members__"):  # an enum
        return value._value_
    if type(value).__module__ in ("decimal", "uuid", "_decimal", "fractions", "ipaddress"):
        return str(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return value


def converted(main: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Convert JSON parameters to the types that `main` declares.

    Raises:
        InvalidParameters: a value does not fit; every bad one is named.
    """
    import inspect
    import typing

    import pydantic

    hints = typing.get_type_hints(main, include_extras=True)
    parameters = inspect.signature(main).parameters
    rest = next((p.name for p in parameters.values() if p.kind is p.VAR_KEYWORD), None)
    given: dict[str, Any] = {}
    fields: list[dict[str, str]] = []
    for name, value in params.items():
        hint = hints.get(name) if name in parameters and name != rest else hints.get(rest) if rest else None
        if hint is None:
            given[name] = value
            continue
        try:
            given[name] = pydantic.TypeAdapter(hint).validate_python(value)
        except pydantic.ValidationError as error:
            fields.extend(
                {"field": ".".join((name, *map(str, item["loc"]))), "message": item["msg"]}
                for item in error.errors(include_input=False, include_url=False, include_context=False)
            )
    if fields:
        raise InvalidParameters(fields)
    return given
