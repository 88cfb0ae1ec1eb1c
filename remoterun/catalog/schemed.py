"""Validate parameters by the JSON Schema that the script's own process gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import SchemaValidator, ValidationError, core_schema

from remoterun.catalog import schemas
from remoterun.catalog.defect import Defect
from remoterun.catalog.parameters import Checked, Parameters, refuse
from remoterun.errors import Invalid
from remoterun.messages import FieldError
from remoterun.places import alternatives

if TYPE_CHECKING:
    import jsonschema_rs

_FORMATS = {
    "date": ("a date, like 2026-11-01", SchemaValidator(core_schema.date_schema())),
    "date-time": ("a date and time, like 2026-11-01T12:30:00Z", SchemaValidator(core_schema.datetime_schema())),
    "time": ("a time, like 12:30:00", SchemaValidator(core_schema.time_schema())),
    "duration": ("a duration, like PT30S", SchemaValidator(core_schema.timedelta_schema())),
    "uuid": ("a UUID", SchemaValidator(core_schema.uuid_schema())),
}
_KINDS = {
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a JSON array",
    "object": "a JSON object",
    "null": "null",
}
# By keyword; {} is what the schema says there, never what the caller sent.
_MESSAGES = {
    "minimum": "it must be at least {}",
    "maximum": "it must be at most {}",
    "exclusiveMinimum": "it must be greater than {}",
    "exclusiveMaximum": "it must be less than {}",
    "multipleOf": "it must be a multiple of {}",
    "minLength": "it must have at least {} characters",
    "maxLength": "it must have at most {} characters",
    "minItems": "it must have at least {} items",
    "maxItems": "it must have at most {} items",
    "minProperties": "it must have at least {} members",
    "maxProperties": "it must have at most {} members",
    "pattern": "it must match the pattern {}",
    "uniqueItems": "its items must differ",
    "const": "it must be {}",
}


class Schemed(Parameters):
    """Parameters of types that only the script's own process knows.

    Parameters:
        schema: their JSON Schema.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        super().__init__(schema)
        self._validator: jsonschema_rs.Validator | None = None

    def check(self, params: dict[str, Any]) -> Checked:
        if self._validator is None:
            self._validator = make_validator(self._schema)
        try:
            converted = {
                name: schemas.convert(value, self._properties.get(name, self._rest), self._definitions)
                for name, value in params.items()
            }
            fields = [field for error in self._validator.iter_errors(converted) for field in self._fields(error)]
        except (RecursionError, ValueError):  # nested too deeply, or a text that is no Unicode
            raise Invalid("params: there is a value that JSON text cannot hold") from None
        if fields:
            merged = {field.field: field for field in reversed(fields)}
            refuse([merged[name] for name in dict.fromkeys(field.field for field in fields)], from_=None)
        return self._checked(converted)

    def _fields(self, error: jsonschema_rs.ValidationError) -> Iterator[FieldError]:
        path = ".".join(map(str, error.instance_path))
        kind: Any = error.kind
        match kind.name:
            case "required":
                yield FieldError(_join(path, kind.property), "it is required")
            case "additionalProperties" | "unevaluatedProperties":
                for name in kind.unexpected:
                    message = "there is no such member" if path else self._unknown(name)
                    yield FieldError(_join(path, name), message)
            case _:
                yield FieldError(path, self._message(error))

    def _message(self, error: jsonschema_rs.ValidationError) -> str:
        try:
            keyword, schema = self._failed(error)
        except (KeyError, IndexError, TypeError):  # a place that only the author's additions to the schema explain
            return "it does not fit"
        if keyword in _MESSAGES:
            return _MESSAGES[keyword].format(schema.get(keyword))
        return f"it must be {_wanted(schema, self._definitions)}"

    def _failed(self, error: jsonschema_rs.ValidationError) -> tuple[str, schemas.Schema]:
        """Give the keyword that refused, and the schema that it stands in."""
        node: Any = self._schema
        *steps, keyword = error.schema_path
        for step in steps:
            node = _resolve(node, self._definitions)
            if step != "$ref":
                node = node[step]
        return str(keyword), _resolve(node, self._definitions)


def make_validator(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """Make a validator.

    Raises:
        Defect: what the author added to the schema makes it unusable.
    """
    import jsonschema_rs  # here: it costs 4 MB, and few scripts need it

    def format_check(validator: SchemaValidator) -> Any:
        return lambda text: _is_valid(validator, text)

    try:
        return jsonschema_rs.validator_for(
            dict(schema),
            validate_formats=True,
            formats={name: format_check(validator) for name, (_, validator) in _FORMATS.items()},
            mask="a value",
            offline=True,
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        text = str(error).partition("\n")[0]
        raise Defect(f"the JSON Schema of its parameters is unusable: {text}; look at json_schema_extra") from error


def _is_valid(validator: SchemaValidator, text: str) -> bool:
    try:
        validator.validate_python(text)
    except ValidationError:
        return False
    return True


def _resolve(schema: Any, definitions: schemas.Definitions) -> Any:
    """Follow references; a KeyError where one leads elsewhere than to a definition."""
    while isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wanted(schema: Any, definitions: schemas.Definitions) -> str:
    """Say what a schema takes: `an integer or null`."""
    found: dict[str, None] = {}
    for alternative in alternatives(schema, definitions):
        if "enum" in alternative:
            found.update(dict.fromkeys(repr(value) for value in alternative["enum"]))
        elif "const" in alternative:
            found[repr(alternative["const"])] = None
        elif alternative.get("format") in _FORMATS:
            found[_FORMATS[alternative["format"]][0]] = None
        else:
            found.update(dict.fromkeys(_KINDS[kind] for kind in sorted(schemas.kinds(alternative, definitions))))
    return " or ".join(found)
