"""What is raised at the caller's when a call is refused or its job failed; pure.

RPyC sends an exception as the name of its class, its arguments, attributes and traceback; a caller's RPyC makes it
again where the class is one of Python's own. So these are Python's own, with what they say in attributes, too:

- a refused call: `code` (of the product's errors), `error` (JSON, all that the error says);
- a job that did not succeed: `code` (its state), `job` (JSON), and the script's own traceback in place of a remote one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import msgspec

from remoterun.errors import Internal, ServiceError, from_body
from remoterun.messages import ErrorBody, Job, decode, encode
from remoterun_rpc.brine import Plain

CLASSES: Final = {
    "unauthenticated": "PermissionError",
    "forbidden": "PermissionError",
    "not_found": "LookupError",
    "invalid": "ValueError",
    "conflict": "ValueError",
    "too_large": "ValueError",
    "busy": "ConnectionError",
    "unavailable": "ConnectionError",
    "internal": "RuntimeError",
}
_JOB_FAILED: Final = "RuntimeError"
_VERSION: Final = ("_remote_version", "<version denied>")  # with another, RPyC warns of what does not matter here


def refused(failure: ServiceError) -> Plain:
    """Give what a refused call raises."""
    body = failure.body()
    text = failure.message
    for field in failure.fields:
        if field.field not in text:
            text = f"{text}; {field.field}: {field.message}"
    attributes = (("code", body.code), ("error", encode(body).decode()), _VERSION)
    return _raised(CLASSES[body.code], f"{body.code}: {text}", attributes, "(the node refused the call)")


def job_failed(job: Job) -> Plain:
    """Give what `run` raises for a job that ended otherwise than well."""
    attributes = (("code", job.state.value), ("job", encode(job).decode()), _VERSION)
    trace = job.error.traceback if job.error is not None else None
    return _raised(_JOB_FAILED, job.failure(), attributes, trace or "(the script left none)")


def no_attribute(text: str) -> Plain:
    """Give what asking for anything else than the methods raises."""
    return _raised("AttributeError", text, (_VERSION,), "(there is nothing else)")


def not_possible(text: str) -> Plain:
    """Give what doing anything else with an object than calling it raises."""
    return _raised("TypeError", text, (_VERSION,), "(there is nothing else)")


def _raised(name: str, text: str, attributes: tuple[tuple[str, str], ...], trace: str) -> Plain:
    return ("builtins", name), (text,), attributes, trace


def service_error(body: Plain) -> ServiceError:
    """Give the exception that the node meant, at our client half."""
    match body:
        case ((_, _), arguments, tuple(attributes), _):
            for attribute in attributes:
                match attribute:
                    case ("error", str(text)):
                        with suppress(msgspec.DecodeError):
                            return from_body(decode(text, ErrorBody))
            return Internal(f"the node raised {arguments!r:.500}")
    return Internal("the node raised something that this version does not know")
