"""The methods of `conn.root`: how each is called, and what it answers.

Answers are texts: JSON, or for `run` of a plain script its stdout. `call` takes and gives every operation in its exact
form; the others are for people. `login` is the connection's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from msgspec import Struct, UnsetType

from remoterun.errors import Invalid, JobFailed
from remoterun.messages import Job, JobQuery, OutputEvent, encode
from remoterun.operations import OPERATIONS, STREAMS, ArtifactOf, EventsAfter, find_operation, parse_fields
from remoterun.service import AsyncSession
from remoterun.states import State
from remoterun_rpc.arguments import Named, Positional, bind, callback_of, job_request
from remoterun_rpc.protocol import Reference, Unboxed
from remoterun_rpc.streams import ArtifactStream, EventStream, Stream, close_with


class Later(Struct, frozen=True):
    """The answer of something that takes its time: an awaitable, and how a session tells its value.

    `tell` gives the value that crosses, or a coroutine that reads more to make it. What `acts` goes on though its
    caller has gone.
    """

    awaitable: Awaitable[Any]
    tell: Callable[[Any, Any], Unboxed | Coroutine[Any, Any, Unboxed]]
    acts: bool = False


class Method(Struct, frozen=True):
    """A method: its description, and what begins it. Beginning may raise any `ServiceError`."""

    doc: str
    begin: Callable[[AsyncSession, Positional, Named], Later | Stream]


def _tell_json(_: AsyncSession, value: Any) -> str:
    return encode(value).decode()


def _tell_id(_: AsyncSession, job: Job) -> str:
    return job.id


def _tell_end(session: AsyncSession, job: Job) -> Unboxed | Coroutine[Any, Any, Unboxed]:
    if job.state is not State.SUCCEEDED:
        raise JobFailed(job)
    if not isinstance(job.params_json, UnsetType):  # a function script's job has params, a plain one's has args
        return bytes(job.result_json).decode()
    return _stdout(session, job.id) if job.output.bytes else ""


async def _stdout(session: AsyncSession, job_id: str) -> str:
    async with AsyncExitStack() as stack:
        events = session.events(job_id)
        close_with(stack, events)
        pieces = [event.raw() async for event in events if isinstance(event, OutputEvent) and event.stream == "stdout"]
    return b"".join(pieces).decode(errors="replace")


def _run(session: AsyncSession, args: Positional, kwargs: Named) -> Later:
    return Later(session.run(job_request(args, kwargs)), _tell_end, acts=True)


def _submit(session: AsyncSession, args: Positional, kwargs: Named) -> Later:
    return Later(session.submit(job_request(args, kwargs)), _tell_id, acts=True)


def _call(session: AsyncSession, args: Positional, kwargs: Named) -> Later | Stream:
    match args, kwargs:
        case (str(name), str() | bytes() as text), () if name not in STREAMS:
            operation = find_operation(name)
            return Later(operation.invoke(session, parse_fields(operation.fields, text)), _tell_json, operation.acts)
        case (str(name), str() | bytes() as text, Reference(is_ours=False) as callback), () if name in STREAMS:
            return _stream(session, callback, parse_fields(STREAMS[name], text))
    raise Invalid(
        "write call(operation, fields), with the fields as JSON text; "
        f"for {' and '.join(STREAMS)} a callback comes after them"
    )


def _stream(session: AsyncSession, callback: Reference, fields: Struct) -> Stream:
    if isinstance(fields, EventsAfter):
        return EventStream(session, callback, fields.job, fields.after)
    if isinstance(fields, ArtifactOf):
        return ArtifactStream(session, callback, fields.job, fields.name, described=True)
    raise Invalid("this operation has no pieces")


def _events(session: AsyncSession, args: Positional, kwargs: Named) -> Stream:
    callback, args, kwargs = callback_of(args, kwargs, 1)
    return _stream(session, callback, bind(EventsAfter, args, kwargs))


def _open_artifact(session: AsyncSession, args: Positional, kwargs: Named) -> Stream:
    callback, args, kwargs = callback_of(args, kwargs, 2)
    fields = bind(ArtifactOf, args, kwargs)
    return ArtifactStream(session, callback, fields.job, fields.name)


def _operation(name: str, tell: Callable[[AsyncSession, Any], str] = _tell_json) -> Callable[..., Later]:
    operation = OPERATIONS[name]

    def begin(session: AsyncSession, args: Positional, kwargs: Named) -> Later:
        fields = bind(operation.fields, args, kwargs)
        return Later(operation.invoke(session, fields), tell, operation.acts)

    return begin


LOGIN: Final = "login"
LOGIN_DOC: Final = "login(token): prove who calls; gives the principal's name. Without a token: by client certificate."

_QUERY: Final = ", ".join(f"{name}=…" for name in JobQuery.__struct_fields__)

METHODS: Final[Mapping[str, Method]] = {
    "run": Method(
        "run(script, *argv, **params): run a script to its end; its result as JSON, or a plain script's stdout.", _run
    ),
    "submit": Method("submit(script, *argv, **params): start a job; its id, once it is durable.", _submit),
    "wait": Method("wait(job, timeout=None): a job as JSON, once it ended or after so long.", _operation("wait")),
    "events": Method(
        "events(job, callback, after=0): call back with each event as JSON, to the last one; the last one's number.",
        _events,
    ),
    "cancel": Method("cancel(job): stop a job and all that it started; the job as JSON.", _operation("cancel")),
    "rerun": Method(
        "rerun(job, newest=False): start an ended job's call again; the new id.", _operation("rerun", _tell_id)
    ),
    "get_job": Method("get_job(job): a job as it stands, as JSON.", _operation("get_job")),
    "list_jobs": Method(f"list_jobs({_QUERY}): a page of jobs as JSON, newest first.", _operation("list_jobs")),
    "open_artifact": Method(
        "open_artifact(job, name, callback): call back with the bytes of a file that a job left, piece by piece; "
        "what the file is, as JSON.",
        _open_artifact,
    ),
    "list_scripts": Method('list_scripts(pattern="*"): scripts as JSON.', _operation("list_scripts")),
    "get_script": Method("get_script(name): a script and its parameters, as JSON.", _operation("get_script")),
    "info": Method("info(): what the node says about itself, as JSON.", _operation("info")),
    "list_refusals": Method("list_refusals(limit=50): the newest refused calls, as JSON.", _operation("list_refusals")),
    "list_tokens": Method("list_tokens(): tokens, without their secrets, as JSON.", _operation("list_tokens")),
    "new_token": Method(
        "new_token(name, scopes, expires=None): make a token, scopes a tuple of texts; the token, in JSON.",
        _operation("new_token"),
    ),
    "revoke_token": Method("revoke_token(name): make a token worthless.", _operation("revoke_token")),
    "backup": Method(
        "backup(): make a copy of the node's data, on its machine; where it is, as JSON.", _operation("backup")
    ),
    "call": Method(
        "call(operation, fields): an operation in its exact form, its fields and its answer as JSON text. The fields "
        "of run and submit are script, params or args, stdin, timeout, key, trace.",
        _call,
    ),
}

DOCS: Final[Mapping[str, str]] = {LOGIN: LOGIN_DOC, **{name: method.doc for name, method in METHODS.items()}}
