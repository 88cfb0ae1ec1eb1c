"""What is made as text: metrics, pages, headers of files; and the document of the API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from remoterun.messages import ArtifactInfo, ScriptInfo
from remoterun.transport import for_url
from remoterun_http import HttpSettings, transport
from remoterun_http.app import Application
from remoterun_http.artifacts import artifact_headers
from remoterun_http.openapi import document
from remoterun_http.reference import reference

HOSTILE = "</pre><script>alert('x')</script>&amp;"
SCRIPTS = [
    ScriptInfo(name="plain", kind="plain", version="v", doc=HOSTILE),
    ScriptInfo(name="broken", kind="plain", version="v", broken=HOSTILE),
    ScriptInfo(
        name="a b/{c}é",
        kind="function",
        version="v",
        description=HOSTILE,
        parameters={
            "type": "object",
            "properties": {HOSTILE: {"$ref": "#/$defs/Point"}, "$ref": {"type": "string"}},
            "required": [HOSTILE],
            "$defs": {"Point": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Point"}}}},
        },
    ),
]


def made() -> dict[str, Any]:
    app = Application(None, None, max_request=1, is_ready=lambda: True)  # type: ignore[arg-type]
    return document(app._rest, SCRIPTS)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    found = made()
    names = found["components"]["schemas"]
    used = set(references(found))
    assert used
    assert {each.removeprefix("#/components/schemas/") for each in used} <= names.keys()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)


def test_the_document_has_one_operation_per_script_that_can_be_called() -> None:
    found = made()
    assert found["openapi"].startswith("3.1")
    runs = [path for path in found["paths"] if path.startswith("/run/")]
    assert runs == ["/run/{script}", "/run/plain", "/run/a%20b/%7Bc%7D%C3%A9"]
    operation = found["paths"][runs[-1]]["post"]
    assert operation["requestBody"]["required"]
    identifiers = [each["operationId"] for path in found["paths"].values() for each in path.values()]
    assert len(identifiers) == len(set(identifiers))
    assert "HTTPValidationError" not in str(found)


def test_every_operation_says_that_its_errors_are_problems() -> None:
    for path, operations in made()["paths"].items():
        for operation in operations.values():
            errors = {
                status: each
                for status, each in operation["responses"].items()
                if not str(status).startswith(("2", "3"))
            }
            assert all("application/problem+json" in each["content"] for each in errors.values()), path


def test_the_reference_escapes_everything() -> None:
    answer = reference(made())
    text = answer.body.decode()
    assert "<script" not in text
    assert "src=" not in text
    assert "&lt;script&gt;" in text
    policy = dict(answer.headers)[b"content-security-policy"]
    assert b"default-src 'none'" in policy
    assert b"unsafe" not in policy


@pytest.mark.parametrize(
    ("name", "media_type", "kind", "disposition"),
    [
        ("a/plot.png", "image/png", b"image/png", b"inline"),
        ("x.svg", "image/svg+xml", b"image/svg+xml", b"attachment"),
        ("x.html", "text/html", b"text/html", b"attachment"),
        ("x", "text/plain", b"text/plain; charset=utf-8", b"inline"),
        ('"\r\né.x', "a/b\r\nx: y", b"application/octet-stream", b"attachment"),
    ],
)
def test_files_are_shown_only_where_they_cannot_act(
    name: str, media_type: str, kind: bytes, disposition: bytes
) -> None:
    headers = dict(artifact_headers(ArtifactInfo(name=name, size=3, media_type=media_type)))
    assert headers[b"content-type"] == kind
    assert headers[b"content-disposition"].startswith(disposition + b"; filename=")
    assert b"sandbox" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert not any(byte < 0x20 or byte > 0x7E for value in headers.values() for byte in value)


def test_the_transport_is_found_by_its_schemes_and_describes_its_settings() -> None:
    assert for_url("http://x") is transport
    assert for_url("https://x") is transport
    for field in msgspec.inspect.type_info(HttpSettings).fields:  # type: ignore[attr-defined]
        assert not field.required
        assert field.type.extra_json_schema["description"], field.name
