"""The OpenAPI 3.1 document: the routes, the values of `messages`, and one typed operation per script."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_args
from urllib.parse import quote

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from msgspec import UNSET, UnsetType

from remoterun import __version__
from remoterun.messages import (
    Backup,
    Event,
    Job,
    JobQuery,
    JobRequest,
    MadeToken,
    NewToken,
    NodeInfo,
    Refusal,
    ScriptInfo,
    TokenInfo,
)
from remoterun.places import UPLOAD, has_uploads
from remoterun_http.answers import JOB_JSON, REQUEST_JSON, Problem

_REF = "#/components/schemas/{name}"
_PUBLIC = ("/livez", "/readyz")
Schema = dict[str, Any]


def described(component: str, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is one of the values of the components."""
    return {status: {"description": component, "content": {"application/json": {"schema": _ref(component)}}}}


def content(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is a text or bytes, of one of these media types."""
    kinds: dict[str, Any] = {kind: {"schema": {"type": "string"}} for kind in media_types}
    return {200: {"description": "The content", "content": kinds}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the statuses of refusals; each is a problem, and so is any other one."""
    problem = {"content": {"application/problem+json": {"schema": _ref("Problem")}}}
    return {status: {"description": _REFUSALS[status], **problem} for status in statuses} | {
        "default": {"description": "Any other refusal", **problem}
    }


_REFUSALS = {
    401: "No valid credential was shown",
    403: "The scope is missing, or the Origin is not taken",
    404: "There is no such thing",
    409: "The idempotency key was used with another request",
    413: "The request is too large",
    415: "The body has a type that is not taken",
    416: "The file has no such part",
    422: "The request is wrong; `fields` names each bad field",
    429: "The queue is full",
    500: "The job failed, was cancelled or lost; or a defect of the node",
    503: "The node cannot do this now",
    504: "The job timed out",
}


def document(app: FastAPI, scripts: Iterable[ScriptInfo]) -> Schema:
    """Make the document for a caller who sees these scripts."""
    made = get_openapi(
        title="remoterun",
        version=__version__,
        description="Call scripts by name. Every error is problem+json with one of a small set of codes.",
        routes=app.routes,
    )
    schemas = _components()
    paths = made["paths"]
    paths["/run/{script}"] = {"post": _any_run()}
    for script in scripts:
        if script.broken is None:
            paths[f"/run/{quote(script.name)}"] = {"post": _run(script, schemas)}
    for path in _PUBLIC:
        paths[path]["get"]["security"] = []
    made["components"] = {
        "schemas": dict(sorted(schemas.items())),
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    }
    made["security"] = [{"token": []}]
    return made


def _components() -> dict[str, Schema]:
    sent = (JobQuery, JobRequest, NodeInfo, Refusal, ScriptInfo, TokenInfo, NewToken, MadeToken, Backup, Event)
    kinds = (_as_sent(Job), _as_sent(Problem, "job"), *sent)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REF)
    schemas["Problem"]["properties"]["job"] = _ref("Job")
    schemas["JobPage"] = _object(
        jobs={"type": "array", "items": _ref("Job")}, next={"anyOf": [{"type": "string"}, {"type": "null"}]}
    )
    schemas["Event"] = {"oneOf": [_ref(kind.__name__) for kind in get_args(Event)]}
    schemas["Artifacts"] = _object(artifacts={"type": "array", "items": _ref("ArtifactInfo")})
    schemas["Scripts"] = _object(scripts={"type": "array", "items": _ref("ScriptInfo")})
    schemas["Refusals"] = _object(refusals={"type": "array", "items": _ref("Refusal")})
    schemas["Tokens"] = _object(tokens={"type": "array", "items": _ref("TokenInfo")})
    schemas["Alive"] = _object(alive={"const": True})
    schemas["Ready"] = _object(ready={"const": True})
    return schemas


def _as_sent(kind: type[msgspec.Struct], *without: str) -> type[msgspec.Struct]:
    """Give a type's twin for its schema: what is always sent is required, so nothing has a default.

    (And msgspec cannot describe a default that is `Raw`.)
    """
    omits = kind.__struct_config__.omit_defaults
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        if field.name in without:
            continue
        optional = UnsetType in get_args(field.type) or (omits and not field.required)
        spec = msgspec.field(name=field.encode_name, default=UNSET if optional else msgspec.NODEFAULT)
        fields.append((field.name, field.type | UnsetType if optional else field.type, spec))
    return msgspec.defstruct(kind.__name__, fields, kw_only=True)


def _any_run() -> Schema:
    parameters = {"type": "object", "description": "The parameters by name, for a function script"}
    operation = _operation("run", "Run a script by its name, which may contain /", "The script's result, or its stdout")
    operation["description"] = (
        "A body of JSON or a form is the parameters of a function script, merged with the query's; any other is "
        "its stdin. For a plain script the names `arg` (again and again), `args` (a list) and `stdin` are its argv "
        "and stdin. Files are parts of a form (multipart/form-data), by the names of their parameters. "
        f"A body of type `{REQUEST_JSON.decode()}` is a whole job request. With "
        f"`Accept: {JOB_JSON.decode()}` the answer is the job, however it ended, with status 200."
    )
    operation["parameters"].insert(
        0, {"name": "script", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    )
    operation["requestBody"] = {
        "content": {
            "application/json": {"schema": parameters},
            "application/x-www-form-urlencoded": {
                "schema": {"type": "object", "additionalProperties": {"type": "string"}}
            },
            "multipart/form-data": {"schema": {"type": "object"}},
            "text/plain": {"schema": {"type": "string"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        }
    }
    operation["responses"]["200"]["content"] |= _TEXT
    return operation


def _run(script: ScriptInfo, schemas: dict[str, Schema]) -> Schema:
    plain = script.kind == "plain"
    operation = _operation(
        f"run/{script.name}",
        script.description or f"Run {script.name}",
        "What the script wrote to stdout" if plain else "The script's result",
    )
    operation["tags"] = ["scripts"]
    if script.doc:
        operation["description"] = script.doc
    if plain:
        arguments = _object(args={"type": "array", "items": {"type": "string"}}, stdin={"type": "string"})
        del arguments["required"]
        operation["requestBody"] = {"content": {"application/json": {"schema": arguments}, **_TEXT}}
        operation["responses"]["200"]["content"] = {**_TEXT, **_JOB_CONTENT}
        return operation
    name = _hoist(script, schemas)
    required = bool(schemas[name].get("required"))
    kind = "multipart/form-data" if has_uploads(script.parameters) else "application/json"
    operation["requestBody"] = {"required": required, "content": {kind: {"schema": _ref(name)}}}
    return operation


def _operation(identifier: str, summary: str, answer: str) -> Schema:
    statuses = refusals(401, 403, 404, 409, 413, 415, 422, 429, 500, 503, 504)
    return {
        "operationId": identifier,
        "summary": summary,
        "parameters": [_header(name, text, schema) for name, text, schema in _HEADERS],
        "responses": {
            "200": {
                "description": answer,
                "headers": {"Remoterun-Job": {"schema": {"type": "string"}}},
                "content": {"application/json": {"schema": {}}, **_JOB_CONTENT},
            },
            "202": {"description": "The job, which goes on", "content": {"application/json": {"schema": _ref("Job")}}},
            **{str(status): body for status, body in statuses.items()},
        },
    }


def _hoist(script: ScriptInfo, schemas: dict[str, Schema]) -> str:
    """Make a component of a script's parameters, and one of each definition that they refer to."""
    name = "Script." + re.sub(r"[^A-Za-z0-9_]", lambda found: f"-{ord(found[0]):x}-", script.name)

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("format") == UPLOAD:
                return {**value, "format": "binary", "contentMediaType": "application/octet-stream"}
            return {
                key: f"#/components/schemas/{name}.{item[8:]}"
                if key == "$ref" and isinstance(item, str) and item.startswith("#/$defs/")
                else renamed(item)
                for key, item in value.items()
            }
        return [renamed(item) for item in value] if isinstance(value, list) else value

    schema = renamed(dict(script.parameters or {"type": "object"}))
    for key, definition in schema.pop("$defs", {}).items():
        schemas[f"{name}.{key}"] = definition
    schemas[name] = schema
    return name


def _ref(name: str) -> Schema:
    return {"$ref": _REF.format(name=name)}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _header(name: str, text: str, schema: Schema) -> Schema:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events",
        "content": {
            "text/event-stream": {
                "schema": _object(
                    id={"type": "string", "description": "The event's number"},
                    event={"type": "string", "description": "Its kind"},
                    data={
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": _ref("Event"),
                    },
                )
            },
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}
PARTS: dict[int | str, dict[str, Any]] = {
    206: {"description": "The part that the Range header names", "content": {"*/*": {"schema": {"type": "string"}}}},
    304: {"description": "It is what the caller has, as the If-None-Match header says"},
}
RANGE_HEADERS: list[Schema] = [
    _header("Range", "One range of bytes, as bytes=0-1023; several give the whole file", {"type": "string"}),
    _header("If-Range", "The ETag under which the range holds; another one gives the whole file", {"type": "string"}),
    _header("If-None-Match", "ETags of what the caller has", {"type": "string"}),
]
_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_JOB_CONTENT = {JOB_JSON.decode(): {"schema": _ref("Job")}}
_HEADERS: tuple[tuple[str, str, Schema], ...] = (
    (
        "Idempotency-Key",
        "The same key within 24 hours gives the same job",
        {"type": "string", "pattern": r"^[A-Za-z0-9_-]+$", "maxLength": 255},
    ),
    ("Remoterun-Timeout", "Seconds; may only shorten the script's own", {"type": "number", "exclusiveMinimum": 0}),
    ("Prefer", "respond-async, or wait=N: an answer after N seconds at most (RFC 7240)", {"type": "string"}),
    ("traceparent", "W3C trace context", {"type": "string"}),
)
