"""Calling scripts: `POST /run/{script}` and `POST /jobs`.

The way of most calls, so it goes without FastAPI's routing, dependencies and response classes, which cost
more than everything else together.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any
from urllib.parse import quote

from msgspec import UnsetType

from remoterun.errors import Forbidden, Invalid, ServiceError
from remoterun.incoming import Incoming, Reception
from remoterun.messages import Job, JobRequest, OutputEvent, encode
from remoterun.service import AsyncSession
from remoterun.states import State
from remoterun_http.answers import (
    JOB_JSON,
    REQUEST_JSON,
    SAFE_HEADERS,
    Answer,
    Header,
    HttpError,
    Receive,
    Send,
    job_failure,
    json_answer,
    refusal,
)
from remoterun_http.headers import Preference, accepts, media_type, preference
from remoterun_http.multipart import MULTIPART, Form, read_form, request_of
from remoterun_http.parameters import as_plain, fields_of, job_request, may_be_plain, whole_request
from remoterun_http.requests import Call

TEXT = b"text/plain; charset=utf-8"


class Calls:
    """Runs and submits.

    Parameters:
        max_request: the largest body taken, in bytes, without files.
        incoming: where files arrive; None: none are taken.
    """

    def __init__(self, max_request: int, incoming: Incoming | None = None) -> None:
        self._max_request = max_request
        self._incoming = incoming

    async def run(self, call: Call, script: str, receive: Receive, send: Send) -> None:
        """Answer `POST /run/{script}`.

        Raises:
            ServiceError: the call is refused.
        """
        if call.scope["method"] != "POST":
            raise HttpError(405, "only POST runs a script", ((b"allow", b"POST"),))
        session = await call.session()
        if media_type(call.headers) != MULTIPART:
            body = await call.body(receive, self._max_request)
            await self._run(call, session, script, body, send)
            return
        with self._reception() as reception:
            form = await read_form(call, receive, self._max_request, reception)
            await self._run(call, session, script, form, send)

    async def _run(self, call: Call, session: AsyncSession, script: str, body: bytes | Form, send: Send) -> None:
        headers = call.headers
        request = whole_request(headers, script, body)
        if request is None:
            request = await _request(session, script, fields_of(headers, call.scope["query_string"], body))
        early = preference(headers)
        if early is None:
            job = await session.run(request)
        else:
            job = await _started(session, request, early)
        await _send_end(call, session, job, early, send)

    def _reception(self) -> AbstractContextManager[Reception | None]:
        return nullcontext() if self._incoming is None else self._incoming.reception()

    async def submit(self, call: Call, receive: Receive) -> Answer:
        """Answer `POST /jobs`, whose body is a job request, or a form with one and with files.

        Raises:
            ServiceError: the call is refused.
        """
        session = await call.session()
        if media_type(call.headers) == MULTIPART:
            with self._reception() as reception:
                form = await read_form(call, receive, self._max_request, reception)
                if form.request is None:
                    raise Invalid(f"the form has no job request; send one as a part of type {REQUEST_JSON.decode()}")
                return _submitted(await session.submit(request_of(form, job_request(form.request))))
        return _submitted(await session.submit(job_request(await self.json_body(call, receive))))

    async def json_body(self, call: Call, receive: Receive) -> bytes:
        """Read a body that has to be JSON; its caller is known.

        Raises:
            ServiceError: it is too large, or said to be something else.
        """
        body = await call.body(receive, self._max_request)
        if media_type(call.headers) not in (b"application/json", REQUEST_JSON):
            raise HttpError(415, "send JSON, as application/json")
        return body


def _submitted(job: Job) -> Answer:
    return json_answer(job, 201, (_location(job), (b"remoterun-job", job.id.encode())))


async def _request(session: AsyncSession, script: str, fields: dict[str, Any]) -> JobRequest:
    if may_be_plain(fields) and await _is_plain(session, script):
        fields = as_plain(fields)
    if "params" in fields and fields.get("args") is not None:
        raise Invalid("give named parameters, or argv, not both")
    return JobRequest(script=script, **fields)


async def _is_plain(session: AsyncSession, script: str) -> bool:
    try:
        return (await session.get_script(script)).kind == "plain"
    except Forbidden:  # one may run what one may not look at; then the names mean what they say
        return False


async def _started(session: AsyncSession, request: JobRequest, early: Preference) -> Job:
    job = await session.submit(request)
    if early.wait and not job.has_ended:
        return await session.wait(job.id, early.wait)
    return job


async def _send_end(call: Call, session: AsyncSession, job: Job, early: Preference | None, send: Send) -> None:
    headers: tuple[Header, ...] = ((b"remoterun-job", job.id.encode()),)
    if job.exit_code is not None:
        headers = (*headers, (b"remoterun-exit-code", b"%d" % job.exit_code))
    if early is not None:
        headers = (*headers, (b"preference-applied", early.applied))
    if not job.has_ended:
        await json_answer(job, 202, (*headers, _location(job))).send(send)
    elif accepts(call.headers, JOB_JSON):
        await Answer(200, encode(job), JOB_JSON, headers).send(send)
    elif job.state is not State.SUCCEEDED:
        await job_failure(job, headers).send(send)
    elif isinstance(job.params_json, UnsetType):  # a plain script: its answer is what it printed
        await _send_stdout(call, session, job, headers, send)
    else:
        await Answer(200, bytes(job.result_json), headers=headers).send(send)


async def _send_stdout(call: Call, session: AsyncSession, job: Job, headers: tuple[Header, ...], send: Send) -> None:
    async with aclosing(output(session, job.id, "stdout")) as chunks:
        try:
            first = await anext(chunks, b"")
        except ServiceError as error:  # the job ran, and its caller may not read
            call.forget(error)
            await refusal(error, headers).send(send)
            return
        call.answered = True
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", TEXT), *SAFE_HEADERS, *headers],
            }
        )
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def output(session: AsyncSession, job_id: str, stream: str | None) -> AsyncGenerator[bytes, None]:
    """Iterate over what a job wrote, to its end: one of its streams, or both as they came.

    Raises:
        ServiceError: the job is not there, or not the caller's.
    """
    async for event in session.events(job_id):
        if isinstance(event, OutputEvent) and stream in (None, event.stream):
            yield event.raw()


def _location(job: Job) -> Header:
    return b"location", quote(f"/jobs/{job.id}").encode()
