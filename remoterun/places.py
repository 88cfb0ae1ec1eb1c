"""Where files stand among parameters, as the JSON Schema of a script says it; pure.

A parameter that is a file has `"format": "upload"`. A call names the place of each file that it sends by a path,
`picture` or `pages.0`; in its parameters the file's name stands there, and in the script the path of its own copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from remoterun.errors import Invalid
from remoterun.messages import FieldError

UPLOAD: Final = "upload"
"""The format of a parameter that is a file; `remoterun.script.Upload` makes it."""

MAX_HOPS: Final = 32  # of references and unions in each other: a schema may refer to itself
_MOST_ITEMS = 1000  # of a list that the paths of files make

Place = tuple[str | int, ...]
Schema = Mapping[str, Any]
Definitions = Mapping[str, Any]


def alternatives(schema: Any, definitions: Definitions, hops: int = 0) -> Iterator[Schema]:
    """Give every schema, without references and unions, that a value may be described by."""
    if not isinstance(schema, dict) or hops > MAX_HOPS:
        yield {}
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        yield from alternatives(definitions.get(reference.rpartition("/")[2]), definitions, hops + 1)
        return
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if not branches:
        yield schema
    for branch in branches:
        yield from alternatives(branch, definitions, hops + 1)


def has_uploads(schema: Any) -> bool:
    """Whether a file may stand anywhere in a value of this schema, its definitions among it."""
    if isinstance(schema, list):
        return any(map(has_uploads, schema))
    if not isinstance(schema, dict):
        return False
    return schema.get("format") == UPLOAD or any(map(has_uploads, schema.values()))


def takes_files(name: str, parameters: Schema) -> bool:
    """Whether a parameter is a file, or a list of files.

    Parameters:
        parameters: JSON Schema of the object of all parameters.
    """
    definitions = parameters.get("$defs", {})
    schema = _member(parameters, name)
    return _is_upload(schema, definitions) or any(
        _is_upload(item, definitions) for item in _items(schema, definitions, 0)
    )


def find_place(path: str, parameters: Schema) -> Place:
    """Give the place that a path means: that of the list's first item where it names a list of files.

    Raises:
        Invalid: no file belongs there; `fields` names the path.
    """
    definitions = parameters.get("$defs", {})
    names = [path] if path in parameters.get("properties", {}) else path.split(".")
    place: Place = ()
    branches: list[Any] = [{**parameters, "type": "object"}]
    for name in names:
        if any(_is_upload(branch, definitions) for branch in branches):
            raise _refused(path_of(place), "it takes one file")
        step, branches = _step(branches, name, definitions)
        place = (*place, step)
    if not branches:
        raise _refused(path, "there is no such parameter")
    if any(_is_upload(branch, definitions) for branch in branches):
        return place
    items = [item for branch in branches for item in _items(branch, definitions, 0)]
    if any(_is_upload(item, definitions) for item in items):
        return (*place, 0)
    raise _refused(path, "it takes no file; send it as a text or as JSON")


def put_names(params: Mapping[str, Any], names: Mapping[Place, str]) -> dict[str, Any]:
    """Give parameters with the names of files in their places; what is given stays as it is.

    Raises:
        Invalid: something else stands in a file's place; `fields` names it.
    """
    filled: Any = dict(params)
    for place, name in sorted(names.items(), key=lambda item: tuple(map(_order, item[0]))):
        filled = _filled(filled, place, name, place)
    result: dict[str, Any] = filled
    return result


def unsent(params: Mapping[str, Any], parameters: Schema, sent: frozenset[Place]) -> list[FieldError]:
    """Give an error for each value that should be a file, and that no file was sent for."""
    definitions = parameters.get("$defs", {})
    places = _texts_for_files(params, {**parameters, "type": "object"}, definitions, ())
    message = "it is a file: send one along, as key@path on the command line or as a part of a form"
    return [FieldError(path_of(place), message) for place in dict.fromkeys(places) if place not in sent]


def path_of(place: Place) -> str:
    """Give a place as text: `pages.0`."""
    return ".".join(map(str, place))


def put(value: Any, place: Place, item: Any) -> Any:
    """Put an item into a value made of lists and dictionaries, and give what is to stand in the value's place."""
    if not place:
        return item
    value[place[0]] = put(value[place[0]], place[1:], item)
    return value


def _refused(path: str, message: str) -> Invalid:
    path = path[:200]
    return Invalid(f"bad parameters: {path}: {message}", fields=[FieldError(path, message)])


def _order(step: str | int) -> tuple[bool, int, str]:
    return (True, step, "") if isinstance(step, int) else (False, 0, step)


def _step(branches: list[Any], name: str, definitions: Definitions) -> tuple[str | int, list[Any]]:
    """Go one step down a path: to an item where a list is meant, else to a member."""
    kinds = [kind for branch in branches for kind in alternatives(branch, definitions)]
    if name.isascii() and name.isdigit() and len(name) < 9:
        index = int(name)
        items = [item for kind in kinds for item in _items(kind, definitions, index)]
        if items and index < _MOST_ITEMS:
            return index, items
    members = [_member(kind, name) for kind in kinds if kind.get("type") == "object"]
    return name, [member for member in members if member is not None]


def _member(schema: Schema, name: str) -> Any:
    """Give the schema of an object's member; None where it has no such member."""
    properties = schema.get("properties", {})
    if name in properties:
        return properties[name]
    rest = schema.get("additionalProperties")
    return rest if isinstance(rest, dict) else None


def _items(schema: Any, definitions: Definitions, index: int) -> list[Any]:
    """Give the schemas of an item, of each alternative that is a list."""
    found = []
    for kind in alternatives(schema, definitions):
        if kind.get("type") == "array":
            prefix = kind.get("prefixItems", [])
            found.append(prefix[index] if index < len(prefix) else kind.get("items", {}))
    return found


def _is_upload(schema: Any, definitions: Definitions) -> bool:
    return any(kind.get("format") == UPLOAD for kind in alternatives(schema, definitions))


def _filled(value: Any, place: Place, name: str, whole: Place) -> Any:
    if not place:
        if value not in (None, "", name):
            raise _refused(path_of(whole), "it is given twice: as a file, and as a value")
        return name
    step = place[0]
    if isinstance(step, int):
        if value is not None and not isinstance(value, list):
            raise _refused(path_of(whole), "it is given twice: as a file, and as a value")
        copied: list[Any] = list(value or ())
        copied += [None] * (step + 1 - len(copied))
        copied[step] = _filled(copied[step], place[1:], name, whole)
        return copied
    if value is not None and not isinstance(value, dict):
        raise _refused(path_of(whole), "it is given twice: as a file, and as a value")
    members = dict(value or {})
    members[step] = _filled(members.get(step), place[1:], name, whole)
    return members


def _texts_for_files(value: Any, schema: Any, definitions: Definitions, place: Place) -> Iterator[Place]:
    kinds = [*alternatives(schema, definitions)]
    if isinstance(value, str):
        is_file = any(kind.get("format") == UPLOAD for kind in kinds)
        if is_file and not any(kind.get("type") == "string" and kind.get("format") != UPLOAD for kind in kinds):
            yield place
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for inner in _items(schema, definitions, index):
                yield from _texts_for_files(item, inner, definitions, (*place, index))
    elif isinstance(value, dict):
        for name, item in value.items():
            for kind in kinds:
                member = _member(kind, name) if kind.get("type") == "object" else None
                if member is not None:
                    yield from _texts_for_files(item, member, definitions, (*place, name))
