"""Check a call's parameters before any process starts, and give the JSON that the worker gets.

`Typed` validates with pydantic, for signatures made of well-known types. `Schemed` validates with the JSON Schema
that the script's own process gave; there the worker validates once more, with the script's own types. Both convert
texts by the declared type in the same way, name every bad field, and never repeat a value in a message.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec
import pydantic
from msgspec import Struct

from remoterun.catalog import schemas
from remoterun.errors import Invalid
from remoterun.messages import FieldError
from remoterun.places import alternatives, has_uploads

_MAX_FIELDS = 100  # named in one answer
_MASKED = schemas.MASK.encode()
_MAX_SHOWN = 10  # of them in its message
_MAX_NAME = 200  # characters of a field's path: the caller chooses unknown names

_encode = msgspec.json.Encoder().encode


class Checked(Struct, frozen=True, gc=False):
    """Parameters that fit, as JSON text of an object."""

    params: bytes  # for the worker
    masked: bytes  # for records: the same with secrets masked
    has_secrets: bool


class Parameters(ABC):
    """What a script takes."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._properties: Mapping[str, Any] = schema.get("properties", {})
        self._rest = schema.get("additionalProperties", False)
        self._definitions: Mapping[str, Any] = schema.get("$defs", {})
        self._schema = schema
        self._secret = schemas.holds_secret(schema, self._definitions)
        self.has_uploads = has_uploads(schema)

    @abstractmethod
    def check(self, params: dict[str, Any]) -> Checked:
        """Validate parameters, texts converted by the declared type.

        Parameters:
            params: JSON values by name; the dictionary is left as it is.

        Raises:
            Invalid: they do not fit; `fields` names every bad one.
        """

    def _checked(self, params: dict[str, Any]) -> Checked:
        data = encode(params)
        if not self._secret:
            return Checked(data, data, False)
        masked = encode(
            {
                name: schemas.mask(value, self._properties.get(name, self._rest), self._definitions)
                for name, value in params.items()
            }
        )
        # A record's parameters are masked already: what they were is gone, and they hold secrets all the same.
        return Checked(data, masked, masked != data or _MASKED in data)

    def _unknown(self, name: str) -> str:
        return f"there is no such parameter; there are {', '.join(self._properties) or 'none'}"


class Typed(Parameters):
    """Parameters of well-known types.

    Parameters:
        schema: their JSON Schema.
        native: whether `main` takes the validated JSON values as they are.
        build: makes the validator; called at the first check, as most scripts of a large folder are seldom called.
    """

    def __init__(
        self, schema: Mapping[str, Any], native: bool, build: Callable[[], Callable[[Any], dict[str, Any]]]
    ) -> None:
        super().__init__(schema)
        self._native = native
        self._build = build
        self._validate: Callable[[Any], dict[str, Any]] | None = None
        self._reads = {
            name: part for name, part in self._properties.items() if schemas.reads_texts(part, self._definitions)
        }
        self._reads_rest = schemas.reads_texts(self._rest, self._definitions)

    def check(self, params: dict[str, Any]) -> Checked:
        if self._reads or self._reads_rest:
            params = {name: self._read(name, value) for name, value in params.items()}
        if self._validate is None:
            self._validate = self._build()
        try:
            valid = self._validate(params)
        except pydantic.ValidationError as error:
            self._refuse(error)
        # Other than native values are made once more from what was given, in the worker.
        return self._checked(valid if self._native else params)

    def _read(self, name: str, value: Any) -> Any:
        """Read a text where pydantic would not; what it converts by itself stays for it."""
        if type(value) is not str:
            return value
        if name in self._reads:
            return schemas.convert(value, self._reads[name], self._definitions)
        if self._reads_rest and name not in self._properties:
            return schemas.convert(value, self._rest, self._definitions)
        return value

    def _refuse(self, error: pydantic.ValidationError) -> NoReturn:
        found: dict[str, str] = {}
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            path, kind = item["loc"], item["type"]
            if kind == "extra_forbidden" and len(path) == 1:
                message = self._unknown(str(path[0]))
            else:
                message = "it is required" if kind == "missing" else item["msg"]
            # A union gives an error for each of its alternatives, with that alternative's name in the path.
            where = field_path(path, self._properties, self._definitions)
            found[where] = (
                f"{found[where]}; or: {message}" if where in found and message not in found[where] else message
            )
        refuse([FieldError(field, message) for field, message in found.items()], from_=None)


def encode(params: Any) -> bytes:
    """Give JSON text.

    Raises:
        Invalid: there is a value that JSON cannot hold.
    """
    try:
        return _encode(params)
    except OverflowError:  # an integer of more than 64 bits
        return json.dumps(params, ensure_ascii=False, separators=(",", ":")).encode()
    except (UnicodeEncodeError, RecursionError, TypeError, ValueError) as error:
        raise Invalid("params: there is a value that JSON text cannot hold") from error


def refuse(fields: Sequence[FieldError], from_: Exception | None) -> NoReturn:
    """Raise the error that names these fields."""
    shown = tuple(FieldError(field.field[:_MAX_NAME], field.message) for field in fields[:_MAX_FIELDS])
    text = "; ".join(f"{field.field}: {field.message}" for field in shown[:_MAX_SHOWN])
    if len(fields) > _MAX_SHOWN:
        text += f"; and {len(fields) - _MAX_SHOWN} more"
    raise Invalid(f"bad parameters: {text}", fields=shown) from from_


def field_path(path: Sequence[str | int], properties: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Give a field's path, `items.0.price`, of those parts of pydantic's that name places and no types."""
    parts: list[str] = []
    branches: list[Any] = [{"type": "object", "properties": properties, "additionalProperties": True}]
    for index, part in enumerate(path):
        inner = _inside(branches, part, definitions)
        if inner is None and index > 0 and not isinstance(part, int):
            continue
        parts.append(str(part))
        branches = inner or []
    return ".".join(parts)


def _inside(branches: list[Any], part: str | int, definitions: Mapping[str, Any]) -> list[Any] | None:
    """Give the schemas of what stands at this part of a path; None where no branch has such a place."""
    found: list[Any] = []
    for branch in branches:
        for schema in alternatives(branch, definitions):
            if isinstance(part, int) and schema.get("type") == "array":
                found.append(schema.get("items", {}))
                found.extend(schema.get("prefixItems", [])[part : part + 1])
            elif schema.get("type") == "object":
                properties = schema.get("properties", {})
                if part in properties:
                    found.append(properties[part])
                elif schema.get("additionalProperties", True) is not False:
                    found.append(schema.get("additionalProperties", {}))
    return found or None
