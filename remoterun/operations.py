"""The operations as values: what each one is asked with and what it answers; pure.

A wire that carries JSON needs no more than this table: its server half decodes the fields of an operation and invokes
it on a session, its client half sends a `Call` and decodes the answer. `events` and `open_artifact` answer with many
messages, and each wire has its own way for them; the fields that they are asked with are here, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from remoterun.errors import Internal, Invalid
from remoterun.messages import (
    Backup,
    Job,
    JobPage,
    JobQuery,
    JobRequest,
    MadeToken,
    NewToken,
    NodeInfo,
    Refusal,
    ScriptInfo,
    TokenInfo,
    decode,
)

if TYPE_CHECKING:
    from remoterun.service import AsyncSession

T = TypeVar("T")


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of a call that has none."""


class About(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whether the node's metrics are wanted, too."""

    metrics: bool = False


class ByPattern(Struct, frozen=True, forbid_unknown_fields=True):
    """Which scripts."""

    pattern: str = "*"


class ByName(Struct, frozen=True, forbid_unknown_fields=True):
    """Which script, or whose token."""

    name: str


class ByJob(Struct, frozen=True, forbid_unknown_fields=True):
    """Which job."""

    job: str


class WaitFor(Struct, frozen=True, forbid_unknown_fields=True):
    """Which job, and for how many seconds at most."""

    job: str
    timeout: float | None = None


class Again(Struct, frozen=True, forbid_unknown_fields=True):
    """Which job, and with which version of its script."""

    job: str
    newest: bool = False


class UpTo(Struct, frozen=True, forbid_unknown_fields=True):
    """How many."""

    limit: int = 50


class EventsAfter(Struct, frozen=True, forbid_unknown_fields=True):
    """Which job's events, and those above which number."""

    job: str
    after: Annotated[int, Meta(ge=0)] = 0


class ArtifactOf(Struct, frozen=True, forbid_unknown_fields=True):
    """Which file of which job."""

    job: str
    name: str


class Operation(Struct, frozen=True):
    """The server's end of an operation.

    `acts` says that it changes something: once begun it goes on though its caller has gone.
    """

    fields: type[Struct]
    invoke: Callable[[AsyncSession, Any], Awaitable[Any]]
    acts: bool = False


OPERATIONS: Final[Mapping[str, Operation]] = {
    "info": Operation(About, lambda session, fields: session.info(fields.metrics)),
    "list_scripts": Operation(ByPattern, lambda session, fields: session.list_scripts(fields.pattern)),
    "get_script": Operation(ByName, lambda session, fields: session.get_script(fields.name)),
    "run": Operation(JobRequest, lambda session, request: session.run(request), acts=True),
    "submit": Operation(JobRequest, lambda session, request: session.submit(request), acts=True),
    "get_job": Operation(ByJob, lambda session, fields: session.get_job(fields.job)),
    "list_jobs": Operation(JobQuery, lambda session, query: session.list_jobs(query)),
    "wait": Operation(WaitFor, lambda session, fields: session.wait(fields.job, fields.timeout)),
    "cancel": Operation(ByJob, lambda session, fields: session.cancel(fields.job), acts=True),
    "rerun": Operation(Again, lambda session, fields: session.rerun(fields.job, fields.newest), acts=True),
    "list_refusals": Operation(UpTo, lambda session, fields: session.list_refusals(fields.limit)),
    "list_tokens": Operation(Nothing, lambda session, _: session.list_tokens()),
    "new_token": Operation(NewToken, lambda session, wanted: session.new_token(wanted), acts=True),
    "revoke_token": Operation(ByName, lambda session, fields: session.revoke_token(fields.name), acts=True),
    "backup": Operation(Nothing, lambda session, _: session.backup(), acts=True),
}
"""Those that are answered with one value; the two of `STREAMS` are answered with many."""

STREAMS: Final[Mapping[str, type[Struct]]] = {"events": EventsAfter, "open_artifact": ArtifactOf}


def find_operation(name: str) -> Operation:
    """Give an operation that is answered with one value.

    Raises:
        Invalid: there is none of that name.
    """
    try:
        return OPERATIONS[name]
    except KeyError:
        raise Invalid(f"there is no operation {name!r}; there are {', '.join(OPERATIONS)}") from None


def parse_fields(kind: type[T], text: bytes | str) -> T:
    """Decode the fields of a call.

    Raises:
        Invalid: they are no JSON, or not of the operation's shape.
    """
    try:
        return decode(text, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the call's JSON is not taken: {error}") from error


class Call(Struct, Generic[T], frozen=True):
    """The client's end of an operation that is answered with one value.

    `waits` says that the answer waits for a job and may take any time; `repeatable` that asking twice does no more
    than asking once, so that it may be sent again when nobody knows whether it arrived.
    """

    operation: str
    fields: Struct
    kind: Any  # the type of the answer, T
    waits: bool = False
    repeatable: bool = True

    def result(self, answer: bytes | str | msgspec.Raw) -> T:
        """Decode the answer, JSON text.

        Raises:
            Internal: it is none of ours.
        """
        value: T = decode_answer(answer, self.kind)
        return value


def info(metrics: bool = False) -> Call[NodeInfo]:
    """Describe the node."""
    return Call("info", About(metrics), NodeInfo)


def list_scripts(pattern: str) -> Call[list[ScriptInfo]]:
    """List scripts."""
    return Call("list_scripts", ByPattern(pattern), list[ScriptInfo])


def get_script(name: str) -> Call[ScriptInfo]:
    """Describe a script."""
    return Call("get_script", ByName(name), ScriptInfo)


def run(request: JobRequest) -> Call[Job]:
    """Run a script to its end."""
    return Call("run", request, Job, waits=True, repeatable=request.key is not None)


def submit(request: JobRequest) -> Call[Job]:
    """Start a job."""
    return Call("submit", request, Job, repeatable=request.key is not None)


def get_job(job_id: str) -> Call[Job]:
    """Give a job as it stands."""
    return Call("get_job", ByJob(job_id), Job)


def list_jobs(query: JobQuery) -> Call[JobPage]:
    """Give a page of jobs."""
    return Call("list_jobs", query, JobPage)


def wait(job_id: str, timeout: float | None) -> Call[Job]:
    """Wait for a job."""
    return Call("wait", WaitFor(job_id, timeout), Job, waits=True)


def cancel(job_id: str) -> Call[Job]:
    """Stop a job."""
    return Call("cancel", ByJob(job_id), Job, waits=True)


def rerun(job_id: str, newest: bool) -> Call[Job]:
    """Submit a job's request again."""
    return Call("rerun", Again(job_id, newest), Job, repeatable=False)


def list_refusals(limit: int) -> Call[list[Refusal]]:
    """List refused calls."""
    return Call("list_refusals", UpTo(limit), list[Refusal])


def list_tokens() -> Call[list[TokenInfo]]:
    """List tokens."""
    return Call("list_tokens", Nothing(), list[TokenInfo])


def new_token(wanted: NewToken) -> Call[MadeToken]:
    """Make a token."""
    return Call("new_token", wanted, MadeToken, repeatable=False)


def revoke_token(name: str) -> Call[None]:
    """Make a token worthless."""
    return Call("revoke_token", ByName(name), None, repeatable=False)


def backup() -> Call[Backup]:
    """Make a copy of the node's data."""
    return Call("backup", Nothing(), Backup, waits=True, repeatable=False)


def decode_answer(answer: Any, kind: Any) -> Any:
    """Decode JSON text that a node answered.

    Raises:
        Internal: it is none that this version knows.
    """
    try:
        return decode(answer, kind)
    except (msgspec.DecodeError, TypeError) as error:
        raise Internal(f"the node's answer is none that this version knows: {error}") from error
