"""Answers: a status, headers and bytes, sent as ASGI messages or given to FastAPI; problem+json (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response

from remoterun.errors import Invalid, ServiceError
from remoterun.messages import FieldError, Job, encode
from remoterun.states import State

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
JOB_JSON = b"application/vnd.remoterun.job+json"
REQUEST_JSON = b"application/vnd.remoterun.job-request+json"
PROBLEM = b"application/problem+json"

# Results may be secret, and none of them is a document that a browser should guess the type of.
SAFE_HEADERS: tuple[Header, ...] = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

STATUS: dict[str, int] = {
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "invalid": 422,
    "conflict": 409,
    "busy": 429,
    "too_large": 413,
    "unavailable": 503,
    "internal": 500,
}

JOB_STATUS: dict[State, int] = {
    State.FAILED: 500,
    State.TIMED_OUT: 504,
    State.CANCELLED: 500,
    State.LOST: 500,
}


class HttpError(Invalid):
    """Refuse a request whose fault has a status of its own in HTTP (405, 415, 421 …).

    Parameters:
        status: the HTTP status.
        message: what is wrong and what to do about it, one line.
        headers: further headers of the answer, as `Allow`.
    """

    def __init__(self, status: int, message: str, headers: tuple[Header, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem with the members of our errors, and the job where one ended badly.

    `type` is always about:blank: `code` says which problem it is, as on every other wire.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
    fields: tuple[FieldError, ...] = ()
    retry_after: float | None = None
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    body: bytes
    media_type: bytes = JSON
    headers: tuple[Header, ...] = ()
    usual: tuple[Header, ...] = SAFE_HEADERS  # of every answer but those that a browser may keep

    async def send(self, send: Send) -> None:
        """Send it as ASGI messages."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status,
                "headers": [
                    (b"content-type", self.media_type),
                    (b"content-length", b"%d" % len(self.body)),
                    *self.usual,
                    *self.headers,
                ],
            }
        )
        await send({"type": "http.response.body", "body": self.body})

    def response(self) -> Response:
        """Give it as what a FastAPI route returns."""
        response = Response(self.body, self.status, media_type=self.media_type.decode())
        response.raw_headers.extend((*self.usual, *self.headers))
        return response


def json_answer(value: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Answer:
    """Answer with one of the values that cross a wire."""
    return Answer(status, encode(value), JSON, headers)


def refusal(error: ServiceError, headers: tuple[Header, ...] = ()) -> Answer:
    """Answer with the problem that an error is."""
    status = STATUS[error.code]
    if isinstance(error, HttpError):
        status, headers = error.status, (*headers, *error.headers)
    elif status == 401:
        headers = (*headers, (b"www-authenticate", b'Bearer realm="remoterun"'))
    if error.retry_after is not None:
        headers = (*headers, (b"retry-after", b"%d" % math.ceil(error.retry_after)))
    return _problem(
        Problem(
            type="about:blank",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=error.message,
            code=error.code,
            message=error.message,
            fields=error.fields,
            retry_after=error.retry_after,
        ),
        headers,
    )


def job_failure(job: Job, headers: tuple[Header, ...] = ()) -> Answer:
    """Answer with the problem that a job's bad end is; parameters that its own checks refused are `invalid`."""
    fields = job.error.bad_fields if job.error is not None else ()
    status = STATUS["invalid"] if fields else JOB_STATUS[job.state]
    return _problem(
        Problem(
            type="about:blank",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=job.failure(),
            code="invalid" if fields else job.state,
            message=job.failure(),
            fields=fields,
            job=job,
        ),
        headers,
    )


def _problem(problem: Problem, headers: tuple[Header, ...]) -> Answer:
    return Answer(problem.status, encode(problem), PROBLEM, headers)
