"""The routes beside `/run`: jobs, scripts, refusals, and what the node says about itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import msgspec
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import Response, StreamingResponse
from msgspec import UnsetType
from starlette.datastructures import QueryParams

from remoterun.errors import Invalid, Unavailable
from remoterun.messages import Event, FieldError, Job, JobQuery, NewToken
from remoterun.operations import parse_fields
from remoterun.service import AsyncSession
from remoterun_http.answers import JSON, SAFE_HEADERS, Answer, Header, HttpError, json_answer
from remoterun_http.artifacts import artifact_headers, choose_part, entity_tag, part_headers
from remoterun_http.calls import TEXT, Calls, output
from remoterun_http.events import KEEPALIVE, STOPPING, Ending, as_lines, as_sse
from remoterun_http.metrics import OPENMETRICS, PROMETHEUS, media_type
from remoterun_http.metrics import metrics as write_metrics
from remoterun_http.openapi import EVENTS, PARTS, RANGE_HEADERS, content, described, refusals
from remoterun_http.requests import CALL, Call

_MOST_WAIT = 3600.0  # seconds of one wait; a client asks again
_LARGEST = 2**63 - 1  # the largest event number that a store can hold
_LIVE = ((b"x-accel-buffering", b"no"), *SAFE_HEADERS)  # of streams: nginx passes each piece on at once
_JOB = described("Job")
_REVOKED: dict[int | str, dict[str, Any]] = {204: {"description": "It is revoked"}}


def _call(request: Request) -> Call:
    call: Call = request.scope[CALL]
    return call


async def _session(request: Request) -> AsyncSession:
    return await _call(request).session()


Caller = Annotated[AsyncSession, Depends(_session)]
Wait = Annotated[
    float | None,
    Query(ge=0, le=_MOST_WAIT, allow_inf_nan=False, description="Seconds to wait for the job's end."),
]


def add_routes(app: FastAPI, calls: Calls, ending: Ending, is_ready: Callable[[], bool]) -> None:
    """Add the routes.

    Parameters:
        app: the application that gets them.
        calls: what submits.
        ending: tells streams and waits that the server stops.
        is_ready: whether the node takes calls now.
    """
    _add_jobs(app, calls, ending)
    _add_streams(app, ending)
    _add_scripts(app)
    _add_node(app, is_ready)
    _add_administration(app, calls)


def _add_jobs(app: FastAPI, calls: Calls, ending: Ending) -> None:
    @app.post(
        "/jobs",
        summary="Submit a job; the answer comes once it is durable",
        status_code=201,
        responses=described("Job", 201) | refusals(401, 403, 404, 409, 413, 415, 422, 429, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}}},
            }
        },
    )
    async def submit(request: Request) -> Response:
        return (await calls.submit(_call(request), request.receive)).response()

    @app.get(
        "/jobs",
        summary="List jobs, newest first",
        responses=described("JobPage") | refusals(401, 403, 422),
        openapi_extra={"parameters": _query_parameters()},
    )
    async def list_jobs(request: Request, session: Caller) -> Response:
        page = await session.list_jobs(_job_query(request.query_params))
        headers: tuple[Header, ...] = ()
        if page.next is not None:
            query = urlencode({**request.query_params, "before": page.next})
            headers = ((b"link", f'</jobs?{query}>; rel="next"'.encode()),)
        return json_answer(page, 200, headers).response()

    @app.get("/jobs/{id}", summary="Give a job as it stands", responses=_JOB | refusals(401, 403, 404, 422))
    async def get_job(id: str, session: Caller, wait: Wait = None) -> Response:
        job = await (session.get_job(id) if wait is None else _waited(session, id, wait, ending))
        return json_answer(job).response()

    @app.post(
        "/jobs/{id}/cancel",
        summary="Stop a job and its whole process tree; the answer comes once it ended",
        responses=_JOB | refusals(401, 403, 404),
    )
    async def cancel(id: str, session: Caller) -> Response:
        return json_answer(await session.cancel(id)).response()

    @app.post(
        "/jobs/{id}/rerun",
        summary="Submit an ended job's request again",
        status_code=201,
        responses=described("Job", 201) | refusals(401, 403, 404, 409, 422, 429, 503),
    )
    async def rerun(
        id: str,
        session: Caller,
        newest: Annotated[bool, Query(description="Run the script as it is now, not as it was.")] = False,
    ) -> Response:
        job = await session.rerun(id, newest)
        return json_answer(job, 201, ((b"location", f"/jobs/{job.id}".encode()),)).response()


def _add_streams(app: FastAPI, ending: Ending) -> None:
    @app.get(
        "/jobs/{id}/output",
        summary="Give what a job wrote, as it wrote it; a running job is followed to its end",
        response_class=Response,
        responses=content(TEXT.decode()) | refusals(401, 403, 404, 422),
    )
    async def read_output(
        id: str, session: Caller, stream: Literal["stdout", "stderr"] | None = None
    ) -> StreamingResponse:
        await session.get_job(id)
        chunks = ending.follow(output(session, id, stream))
        return _streamed(chunks, [(b"content-type", TEXT), *_LIVE])

    @app.get(
        "/jobs/{id}/events",
        summary="Follow a job's events to the final one, as server-sent events or lines of JSON",
        response_class=Response,
        responses=EVENTS | {204: {"description": "There are no further events"}} | refusals(401, 403, 404, 422),
    )
    async def follow_events(
        request: Request,
        id: str,
        session: Caller,
        after: Annotated[
            int, Query(ge=0, le=_LARGEST, description="Events up to this number are left out, as with Last-Event-ID.")
        ] = 0,
    ) -> Response:
        after = _last_event_id(request) or after
        job = await session.get_job(id)
        events = session.events(id, after)
        if job.has_ended and after:
            first = await anext(events, None)
            if first is None:
                return Response(status_code=204)  # it tells a browser's EventSource not to come back
            events = _chained(first, events)
        followed = ending.follow(events, KEEPALIVE)
        if "application/x-ndjson" in request.headers.get("accept", ""):
            return _streamed(as_lines(followed), [(b"content-type", b"application/x-ndjson"), *_LIVE])
        return _streamed(as_sse(followed), [(b"content-type", b"text/event-stream; charset=utf-8"), *_LIVE])

    @app.get(
        "/jobs/{id}/artifacts",
        summary="List the files that a job left",
        responses=described("Artifacts") | refusals(401, 403, 404),
    )
    async def list_artifacts(id: str, session: Caller) -> Response:
        return json_answer({"artifacts": (await session.get_job(id)).artifacts}).response()

    @app.get(
        "/jobs/{id}/artifacts/{name:path}",
        summary="Give a file that a job left",
        response_class=Response,
        responses=content("*/*") | PARTS | refusals(401, 403, 404, 416),
        openapi_extra={"parameters": RANGE_HEADERS},
    )
    async def open_artifact(request: Request, id: str, name: str, session: Caller) -> Response:
        job = await session.get_job(id)
        artifact = await session.open_artifact(id, name)
        size, tag = artifact.info.size, entity_tag(job, artifact.info)
        part = choose_part(_call(request).headers, tag, size)
        if part.status == 416:
            range_headers = ((b"content-range", b"bytes */%d" % size), (b"etag", tag.encode()))
            raise HttpError(416, f"the file has {size} bytes, and none of those that the range names", range_headers)
        headers = [*artifact_headers(artifact.info), *part_headers(part, tag, size)]
        if part.start == part.stop:
            empty = Response(status_code=part.status)
            empty.raw_headers[:] = headers
            return empty
        return _streamed(ending.follow(artifact.part(part.start, part.stop)), headers, part.status)


def _add_scripts(app: FastAPI) -> None:
    @app.get("/scripts", summary="List scripts", responses=described("Scripts") | refusals(401, 403, 422))
    async def list_scripts(
        session: Caller, pattern: Annotated[str, Query(description="A glob of names.")] = "*"
    ) -> Response:
        return json_answer({"scripts": await session.list_scripts(pattern)}).response()

    @app.get(
        "/scripts/{name:path}",
        summary="Describe a script, with the schema of its parameters",
        responses=described("ScriptInfo") | refusals(401, 403, 404),
    )
    async def get_script(name: str, session: Caller) -> Response:
        return json_answer(await session.get_script(name)).response()


def _add_node(app: FastAPI, is_ready: Callable[[], bool]) -> None:
    @app.get(
        "/refusals",
        summary="List the newest refused calls",
        responses=described("Refusals") | refusals(401, 403, 422),
    )
    async def list_refusals(session: Caller, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
        return json_answer({"refusals": await session.list_refusals(limit)}).response()

    @app.get("/info", summary="Describe the node", responses=described("NodeInfo") | refusals(401))
    async def info(
        session: Caller, metrics: Annotated[bool, Query(description="With the samples of its metrics.")] = False
    ) -> Response:
        principal = quote(session.principal).encode()
        return json_answer(await session.info(metrics), 200, ((b"remoterun-principal", principal),)).response()

    @app.get(
        "/metrics",
        summary="The node's metrics, for Prometheus and what reads OpenMetrics",
        response_class=Response,
        responses=content(PROMETHEUS.decode(), OPENMETRICS.decode()) | refusals(401),
    )
    async def read_metrics(request: Request, session: Caller) -> Response:
        info, kind = await session.info(metrics=True), media_type(request.headers.get("accept", ""))
        samples = () if isinstance(info.metrics, UnsetType) else info.metrics  # a node that knows no metrics
        return Answer(200, write_metrics(samples, kind), kind).response()

    @app.get("/livez", summary="Say that the process answers", responses=described("Alive"))
    async def livez() -> Response:
        return Answer(200, b'{"alive":true}', JSON).response()

    @app.get("/readyz", summary="Say whether calls are taken", responses=described("Ready") | refusals(503))
    async def readyz() -> Response:
        if not is_ready():
            raise Unavailable("the node starts or stops; it takes no calls now", retry_after=1)
        return Answer(200, b'{"ready":true}', JSON).response()


def _add_administration(app: FastAPI, calls: Calls) -> None:
    @app.get("/tokens", summary="List tokens, without themselves", responses=described("Tokens") | refusals(401, 403))
    async def list_tokens(session: Caller) -> Response:
        return json_answer({"tokens": await session.list_tokens()}).response()

    @app.post(
        "/tokens",
        summary="Make a token; the answer is the only one that shows it",
        status_code=201,
        responses=described("MadeToken", 201) | refusals(401, 403, 413, 415, 422, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewToken"}}},
            }
        },
    )
    async def new_token(request: Request, session: Caller) -> Response:
        wanted = parse_fields(NewToken, await calls.json_body(_call(request), request.receive))
        return json_answer(await session.new_token(wanted), 201).response()

    @app.delete(
        "/tokens/{name}",
        summary="Make a token worthless, on open connections too",
        status_code=204,
        responses=_REVOKED | refusals(401, 403, 404, 503),
    )
    async def revoke_token(name: str, session: Caller) -> Response:
        await session.revoke_token(name)
        return Response(status_code=204)

    @app.post(
        "/backups",
        summary="Make a copy of the node's data, on the node's machine",
        status_code=201,
        responses=described("Backup", 201) | refusals(401, 403, 409, 503),
    )
    async def make_backup(session: Caller) -> Response:
        return json_answer(await session.backup(), 201).response()


async def _waited(session: AsyncSession, job_id: str, seconds: float, ending: Ending) -> Job:
    async def waiting() -> AsyncIterator[Job]:
        yield await session.wait(job_id, seconds)

    async for job in ending.follow(waiting()):
        if job is not None:
            return job
    raise STOPPING


def _last_event_id(request: Request) -> int:
    text = request.headers.get("last-event-id", "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and int(text[:20]) <= _LARGEST):
        message = "must be the number of an event"
        raise Invalid(f"Last-Event-ID {message}", fields=[FieldError("Last-Event-ID", message)])
    return int(text)


def _job_query(query: QueryParams) -> JobQuery:
    values: dict[str, Any] = dict(query)
    if len(values) != len(query.multi_items()):
        raise Invalid("a parameter of the query came twice; give each once")
    if values.get("limit", "").isdecimal() and len(values["limit"]) < 9:
        values["limit"] = int(values["limit"])
    try:
        wanted = msgspec.convert(values, JobQuery)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`") or "query"
        raise Invalid(f"{field}: {message}", fields=[FieldError(field, message)]) from error
    if not 1 <= wanted.limit <= 1000:
        raise Invalid("limit must be 1 to 1000", fields=[FieldError("limit", "must be 1 to 1000")])
    for name in ("since", "until"):
        time = getattr(wanted, name)
        if time is not None and time.tzinfo is None:
            message = "needs a time zone, as in 2026-11-01T00:00:00Z"
            raise Invalid(f"{name} {message}", fields=[FieldError(name, message)])
    return wanted


def _query_parameters() -> list[dict[str, Any]]:
    _, schemas = msgspec.json.schema_components([JobQuery], ref_template="#/components/schemas/{name}")
    properties = schemas["JobQuery"]["properties"]
    properties["limit"] = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] if kinds else schema


async def _chained(first: Event, rest: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in rest:
        yield event


def _streamed(chunks: AsyncIterator[Any], headers: list[Header], status: int = 200) -> StreamingResponse:
    response = StreamingResponse(chunks, status)
    response.raw_headers[:] = headers
    return response
