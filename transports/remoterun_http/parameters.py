"""A call's parameters: from the query, a form, JSON or plain bytes, to the fields of a job request."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from remoterun.errors import Invalid
from remoterun.grammar import add
from remoterun.messages import FieldError, JobRequest, stdin_fields
from remoterun.quantities import Duration
from remoterun_http.answers import JSON, REQUEST_JSON, HttpError
from remoterun_http.headers import idempotency_key, media_type
from remoterun_http.multipart import Form, files_of, request_of

_PLAIN_NAMES = frozenset({"arg", "args", "stdin"})
_URLENCODED = b"application/x-www-form-urlencoded"
_RAW = frozenset({b"", b"text/plain", b"application/octet-stream"})
_decode = msgspec.json.Decoder().decode


def fields_of(headers: dict[bytes, bytes], query: bytes, body: bytes | Form) -> dict[str, Any]:
    """Give the fields of the job request that a call's query, headers and body make, without `script`.

    A body of JSON or a form is named parameters, merged with the query's; any other is what the script
    reads from its standard input.

    Raises:
        Invalid: a parameter comes from two places, or the body is not what its type says.
        HttpError: the body has a type that is not taken (415).
    """
    params: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    if isinstance(body, Form):
        params = _gathered(body.texts)
        if body.files:
            fields["files"] = files_of(body)
    elif body:
        kind = media_type(headers)
        if kind == JSON:
            params = _object(body)
        elif kind == _URLENCODED:
            params = _urlencoded(body, "the form")
        elif kind in _RAW:
            fields = stdin_fields(body)
        else:
            raise HttpError(
                415, f"a body of type {kind.decode('latin-1')} is not taken; send JSON, a form, text/plain or bytes"
            )
    if query:
        params = _merged(_urlencoded(query, "the query"), params)
    if params:
        fields["params"] = params
    fields.update(_header_fields(headers))
    return fields


def whole_request(headers: dict[bytes, bytes], script: str, body: bytes | Form) -> JobRequest | None:
    """Give the job request that the body, or a part of it, is where its type says so (`…job-request+json`), else None.

    Raises:
        Invalid: it is no job request, or one for another script.
    """
    if isinstance(body, Form):
        if body.request is None:
            return None
        request = request_of(body, job_request(body.request))
    elif media_type(headers) != REQUEST_JSON:
        return None
    else:
        request = job_request(body)
    if request.script != script:
        raise _invalid("script", f"the path says {script!r} and the body {request.script!r}")
    return request


def job_request(body: bytes) -> JobRequest:
    """Decode a job request.

    Raises:
        Invalid: the body is none; the text says where it goes wrong.
    """
    try:
        return msgspec.json.decode(body, type=JobRequest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_json(error) from error


def may_be_plain(fields: dict[str, Any]) -> bool:
    """Say whether these are fields that a plain script's argv and stdin could be meant by."""
    params = fields.get("params")
    return params is not None and params.keys() <= _PLAIN_NAMES


def as_plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn the parameters `arg` (again and again), `args` (a list) and `stdin` into argv and stdin.

    Raises:
        Invalid: they are no texts.
    """
    fields = dict(fields)
    params = fields.pop("params")
    if "arg" in params and "args" in params:
        raise _invalid("args", "give arg or args, not both")
    args = params.get("args", params.get("arg", []))
    args = [args] if isinstance(args, str) else args
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise _invalid("args", "must be a list of texts")
    fields["args"] = tuple(args)
    if "stdin" in params:
        if not isinstance(params["stdin"], str):
            raise _invalid("stdin", "must be a text")
        fields["stdin"] = params["stdin"]
    return fields


def bad_json(error: Exception) -> Invalid:
    """Give the refusal of a body that is no JSON, or JSON of another shape."""
    if isinstance(error, RecursionError):
        return Invalid("the body is JSON nested too deeply")
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Invalid(f"the body is no JSON: {text}")
    message, _, path = text.partition(" - at `$.")
    return _invalid(path.rstrip("`") or "body", message)


def _header_fields(headers: dict[bytes, bytes]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    timeout = headers.get(b"remoterun-timeout")
    if timeout is not None:
        try:
            fields["timeout"] = float(Duration.parse(timeout.decode("latin-1")))
        except ValueError as error:
            raise _invalid("Remoterun-Timeout", str(error)) from error
    key = idempotency_key(headers)
    if key is not None:
        fields["key"] = key
    trace = headers.get(b"traceparent")
    if trace is not None:
        fields["trace"] = trace.decode("latin-1")
    return fields


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_json(error) from error
    if not isinstance(value, dict):
        raise Invalid("the body must be a JSON object: the parameters by name")
    return value


def _urlencoded(data: bytes, where: str) -> dict[str, Any]:
    if data.lstrip()[:1] == b"{":  # curl -d says that its data is a form
        raise Invalid("the body looks like JSON; send it with Content-Type: application/json")
    try:
        pairs = parse_qsl(data.decode(), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:  # UnicodeDecodeError is one
        raise Invalid(f"{where} is not URL-encoded UTF-8") from error
    return _gathered(pairs)


def _gathered(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    seen_twice: set[str] = set()
    for name, value in pairs:
        add(params, seen_twice, name, value)
    return params


def _merged(query: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    both = sorted(query.keys() & body.keys())
    if both:
        message = "is in the query and in the body; give it once"
        raise Invalid(f"{both[0]} {message}", fields=[FieldError(name, message) for name in both])
    return {**query, **body}


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", fields=[FieldError(field, message)])
