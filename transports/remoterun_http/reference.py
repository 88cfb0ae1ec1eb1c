"""The reference of the API: a plain page, made here and without JavaScript."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

from remoterun_http.answers import Answer, Header

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre{overflow:auto;padding:.75rem;border:1px solid #8888;border-radius:.4rem}"
    "code{font-size:.9em}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: tuple[Header, ...] = (
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'".encode(),
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


def reference(document: dict[str, Any]) -> Answer:
    """Make the reference page from the OpenAPI document."""
    parts = [f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>"]
    parts.append(f"<p>{escape(document['info']['description'])}</p>")
    parts.append('<p>The whole of it for programs: <a href="/openapi.json">openapi.json</a>.</p>')
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(f"{method.upper()} {path}", operation))
    return _page("remoterun: reference", parts)


def _operation(title: str, operation: dict[str, Any]) -> str:
    rows = [
        f"<li><code>{escape(each['name'])}</code> ({escape(each['in'])}) {escape(each.get('description', ''))}</li>"
        for each in operation.get("parameters", ())
    ]
    rows += [
        f"<li>{escape(str(status))}: {escape(response.get('description', ''))}</li>"
        for status, response in operation["responses"].items()
    ]
    text = operation.get("description", "")
    more = f"<pre>{escape(text)}</pre>" if text else ""
    return (
        f"<h2><code>{escape(title)}</code></h2><p>{escape(operation.get('summary', ''))}</p>{more}"
        f"<ul>{''.join(rows)}</ul>"
    )


def _page(title: str, parts: list[str]) -> Answer:
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>"
    )
    return Answer(200, html.encode("utf-8", "replace"), b"text/html; charset=utf-8", _HEADERS)
