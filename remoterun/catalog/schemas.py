"""What a JSON Schema says of a value: which kinds it may be, how a text becomes one, where secrets are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import SchemaValidator, ValidationError, core_schema

from remoterun.places import MAX_HOPS, alternatives

MASK = "**********"  # as pydantic shows a SecretStr

_ALL = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})
_SCALARS = {
    "integer": SchemaValidator(core_schema.int_schema()),
    "number": SchemaValidator(core_schema.float_schema(allow_inf_nan=False)),
    "boolean": SchemaValidator(core_schema.bool_schema()),
}

Schema = Mapping[str, Any]
Definitions = Mapping[str, Any]


def kinds(schema: Any, definitions: Definitions) -> frozenset[str]:
    """Give the kinds of JSON value that a schema takes; all of them where it does not say."""
    found: set[str] = set()
    for alternative in alternatives(schema, definitions):
        stated = alternative.get("type")
        if isinstance(stated, str):
            found.add(stated)
        elif isinstance(stated, list):
            found.update(stated)
        elif "enum" in alternative or "const" in alternative:
            found.update(map(_kind_of, alternative.get("enum", [alternative.get("const")])))
        else:
            return _ALL
    return frozenset(found)


def reads_texts(schema: Any, definitions: Definitions) -> bool:
    """Whether a text must be read before pydantic sees it: for arrays, objects, and choices that are no texts."""
    if "string" in kinds(schema, definitions):
        return False
    return any(
        "enum" in alternative or "const" in alternative or alternative.get("type") in ("array", "object")
        for alternative in alternatives(schema, definitions)
    )


def from_text(text: str, stated: frozenset[str]) -> Any:
    """Turn a text into the array or object that it holds as JSON, or into an array of one element.

    What cannot be turned comes back as it is, for the validator to refuse.
    """
    if stated.isdisjoint({"array", "object"}):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, list) and "array" in stated:
        return value
    if isinstance(value, dict) and "object" in stated:
        return value
    if value is None and "null" in stated:
        return None
    if "array" in stated and stated <= {"array", "null"}:
        return [text]
    return text


def convert(value: Any, schema: Any, definitions: Definitions, top: bool = True) -> Any:
    """Convert every text in a value that stands where the schema wants another kind.

    A scalar is converted as pydantic does it; only a parameter itself, not what is in it, is read as JSON.
    """
    if isinstance(value, str):
        stated = kinds(schema, definitions)
        if top and "string" not in stated and not isinstance(read := from_text(value, stated), str):
            return convert(read, schema, definitions, False)
        return _convert_scalar(value, stated)
    if isinstance(value, list):
        element = _only(schema, definitions, "array")
        prefix = element.get("prefixItems", [])
        rest = element.get("items", True)
        return [
            convert(item, prefix[index] if index < len(prefix) else rest, definitions, False)
            for index, item in enumerate(value)
        ]
    if isinstance(value, dict):
        branch = _only(schema, definitions, "object")
        properties = branch.get("properties", {})
        rest = branch.get("additionalProperties", True)
        return {key: convert(item, properties.get(key, rest), definitions, False) for key, item in value.items()}
    return value


def holds_secret(schema: Any, definitions: Definitions) -> bool:
    """Whether a secret may be anywhere in a value of this schema."""
    return _holds_secret(schema, definitions, set())


def mask(value: Any, schema: Any, definitions: Definitions) -> Any:
    """Give a value with its secrets masked; where several alternatives fit, what any of them calls a secret is."""
    if value is None:
        return None
    if _is_secret(schema, definitions):
        return MASK
    for alternative in alternatives(schema, definitions):
        if isinstance(value, list):
            value = [mask(item, part, definitions) for item, part in zip(value, _parts(alternative), strict=False)]
        elif isinstance(value, dict):
            value = {key: _mask_member(key, item, alternative, definitions) for key, item in value.items()}
    return value


def _is_secret(schema: Any, definitions: Definitions, hops: int = 0) -> bool:
    if not isinstance(schema, dict) or hops > MAX_HOPS:
        return False
    reference = schema.get("$ref")
    inner = [definitions.get(reference.rpartition("/")[2])] if isinstance(reference, str) else []
    inner += [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    return bool(schema.get("writeOnly")) or any(_is_secret(part, definitions, hops + 1) for part in inner)


def _mask_member(key: str, item: Any, schema: Schema, definitions: Definitions) -> Any:
    properties = schema.get("properties", {})
    if key in properties:
        return mask(item, properties[key], definitions)
    rest = schema.get("additionalProperties", True)
    if isinstance(rest, dict):
        return mask(item, rest, definitions)
    # A model may know a field by a second name that its schema does not tell: mask what may be a secret's.
    if any(holds_secret(part, definitions) for part in properties.values()):
        return MASK
    return item


def _parts(schema: Schema) -> Iterator[Any]:
    yield from schema.get("prefixItems", ())
    while True:
        yield schema.get("items", True)


def _holds_secret(schema: Any, definitions: Definitions, seen: set[int]) -> bool:
    if isinstance(schema, list):
        return any(_holds_secret(item, definitions, seen) for item in schema)
    if not isinstance(schema, dict) or id(schema) in seen:
        return False
    seen.add(id(schema))
    if schema.get("writeOnly"):
        return True
    reference = schema.get("$ref")
    if isinstance(reference, str) and _holds_secret(definitions.get(reference.rpartition("/")[2]), definitions, seen):
        return True
    return any(_holds_secret(part, definitions, seen) for part in schema.values())


def _convert_scalar(text: str, stated: frozenset[str]) -> Any:
    if "string" in stated:
        return text
    for kind, validator in _SCALARS.items():
        if kind in stated:
            try:
                return validator.validate_python(text)
            except ValidationError:
                continue
    return text


def _only(schema: Any, definitions: Definitions, kind: str) -> Schema:
    """Give the one alternative of this kind; nothing where there are several, as no one can tell which is meant."""
    fitting = [item for item in alternatives(schema, definitions) if item.get("type") == kind]
    return fitting[0] if len(fitting) == 1 else {}


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
    return "array" if isinstance(value, list) else "object"
