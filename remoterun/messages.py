"""The values that cross a wire: frozen, validated where they are decoded, trusted inside.

JSON is their form on every wire: `encode(value)` and `decode(bytes, Type)`. Fields that hold JSON
of the caller's or the script's own (`params`, `result`) stay undecoded JSON text (`…_json`) so
that the node never builds objects from them that it does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from remoterun.states import FINAL, State

T = TypeVar("T")

NULL = Raw(b"null")

_encoder = msgspec.json.Encoder()
encode: Callable[[Any], bytes] = _encoder.encode


def decode(data: bytes | str, kind: type[T] | Any) -> T:
    """Decode JSON into a value.

    Parameters:
        data: JSON text, UTF-8.
        kind: the type of the value, one of this module's.

    Raises:
        msgspec.ValidationError: the JSON is well-formed and of another shape; the text names the field.
        msgspec.DecodeError: the bytes are no JSON.
    """
    return msgspec.json.decode(data, type=kind)


def now() -> datetime:
    """Give the present time, in UTC, as every record holds it."""
    return datetime.now(UTC)


class FieldError(Struct, frozen=True):
    """One bad field of a request: its path (`name`, `items.0.price`) and what is wrong."""

    field: str
    message: str


class ErrorBody(Struct, frozen=True, kw_only=True):
    """A refused call, as it crosses a wire; `retry_after` in seconds."""

    code: str
    message: str
    fields: tuple[FieldError, ...] = ()
    retry_after: float | None = None


class UploadedFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that a caller sends along: what the caller calls it, and its bytes."""

    name: str
    data: bytes = msgspec.field(name="data_base64")


class FileOnDisk(UploadedFile, frozen=True, kw_only=True):
    """A file whose bytes are on this machine's disk; it crosses no wire, so that nobody else can name a path.

    `sha256` is empty where nobody has read the file yet.
    """

    data: bytes = msgspec.field(name="data_base64", default=b"")
    path: str
    size: int
    sha256: str = ""


class JobRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a caller asks for when it runs or submits a script.

    `params` are the named parameters of a function script; a text for a parameter of another type
    is converted by the declared type. `files` are those that it sends along, by the path of the parameter
    that each is for: `picture`, `pages.0`. `args` is the argv of a plain script. `timeout` is in seconds
    and may only shorten the script's own. `key` makes the call idempotent. `trace` is a W3C traceparent.
    """

    script: str
    params: dict[str, Any] | None = None
    files: dict[str, UploadedFile] | None = None
    args: tuple[str, ...] | None = None
    stdin: str | None = None
    stdin_base64: bytes | None = None
    timeout: float | None = None
    key: str | None = None
    trace: str | None = None

    def stdin_bytes(self) -> bytes | None:
        """Give what the script reads from its standard input, or None."""
        if self.stdin_base64 is not None:
            return self.stdin_base64
        return None if self.stdin is None else self.stdin.encode()


def stdin_fields(data: bytes | None) -> dict[str, Any]:
    """Give the request's fields for these bytes: `stdin` where they are UTF-8, else `stdin_base64`."""
    if data is None:
        return {}
    try:
        return {"stdin": data.decode()}
    except UnicodeDecodeError:
        return {"stdin_base64": data}


class JobError(Struct, frozen=True, kw_only=True):
    """Why a job did not succeed: the exception's type (or the limit's name), message, traceback."""

    type: str
    message: str
    traceback: str | None = None
    fields: tuple[FieldError, ...] | UnsetType = UNSET  # parameters that the script's own types refused

    @property
    def bad_fields(self) -> tuple[FieldError, ...]:
        """The parameters that the script's own types refused."""
        return () if isinstance(self.fields, UnsetType) else self.fields


class Progress(Struct, frozen=True):
    """How far a job says that it is; `total` is None where it does not know."""

    done: float
    total: float | None = None
    message: str | None = None


class ArtifactInfo(Struct, frozen=True, kw_only=True):
    """A file that a job left: its name (with `/` for folders), size in bytes, media type."""

    name: str
    size: int
    media_type: str


class OutputInfo(Struct, frozen=True):
    """How many bytes a job wrote to stdout and stderr, and whether the log holds less than that."""

    bytes: int = 0
    cut: bool = False


class Job(
    Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={"params_json": "params", "result_json": "result"},
):
    """One invocation of a script, as it stands now."""

    id: str  # UUIDv7: sorts by time of creation
    script: str
    version: str  # SHA-256 of the file that it runs
    state: State
    attempt: int  # 0 until it first starts
    params_json: Raw | UnsetType = UNSET  # secrets masked
    args: tuple[str, ...] | UnsetType = UNSET
    result_json: Raw = NULL
    error: JobError | None = None
    exit_code: int | None = None  # negative: ended by that signal
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    principal: str
    transport: str
    node: str
    progress: Progress | None = None
    artifacts: tuple[ArtifactInfo, ...] = ()
    output: OutputInfo = OutputInfo()
    key: str | None = None
    rerun_of: str | None = None
    peer: str = ""  # where its caller called from, as the transport or its gateway saw it

    @property
    def params(self) -> dict[str, Any] | None:
        """The parameters that the caller gave, secrets masked."""
        if isinstance(self.params_json, UnsetType):
            return None
        return msgspec.json.decode(self.params_json)  # type: ignore[no-any-return]

    @property
    def result(self) -> Any:
        """What `main` returned, or what a plain script wrote to REMOTERUN_RESULT."""
        return msgspec.json.decode(self.result_json)

    @property
    def has_ended(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL

    def mentions(self, text: str) -> bool:
        """Tell whether the job says this anywhere, in letters of either case."""
        wanted = text.casefold()
        said: list[str | None] = [self.id, self.script, self.principal, self.key]
        if self.error is not None:
            said += (self.error.type, self.error.message)
        if not isinstance(self.args, UnsetType):
            said += self.args
        if any(wanted in part.casefold() for part in said if part):
            return True
        quoted = encode(text)[1:-1].decode().casefold()
        return any(quoted in encode(value).decode().casefold() for value in (self.params, self.result) if value)

    def failure(self) -> str:
        """Say in one line how the job ended."""
        text = f"job {self.id} of {self.script}: {self.state}"
        if self.error is not None:
            return f"{text}: {self.error.type}: {self.error.message}"
        if self.exit_code:
            return f"{text}: exit code {self.exit_code}"
        return text


class _Event(Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True, gc=False):
    job: str
    n: int  # from 1, without gaps
    time: datetime


class StateEvent(_Event, frozen=True, kw_only=True, tag="state"):
    """The job moved to a state; the last event of a job has `final`."""

    state: State
    attempt: int
    final: bool = False


class OutputEvent(_Event, frozen=True, kw_only=True, tag="output"):
    """A piece of the script's output: `data` where it is UTF-8, else `data_base64`."""

    stream: Literal["stdout", "stderr"]
    data: str | UnsetType = UNSET
    data_base64: bytes | UnsetType = UNSET

    def raw(self) -> bytes:
        """Give the bytes as the script wrote them."""
        if not isinstance(self.data_base64, UnsetType):
            return self.data_base64
        return b"" if isinstance(self.data, UnsetType) else self.data.encode()


class ProgressEvent(_Event, frozen=True, kw_only=True, tag="progress"):
    """The job said how far it is."""

    done: float
    total: float | None = None
    message: str | None = None


class ArtifactEvent(_Event, frozen=True, kw_only=True, tag="artifact"):
    """The job left a file."""

    name: str
    size: int
    media_type: str


Event = StateEvent | OutputEvent | ProgressEvent | ArtifactEvent


class ScriptInfo(Struct, frozen=True, kw_only=True):
    """What there is to know about a script before calling it."""

    name: str
    kind: Literal["function", "plain"]
    version: str  # SHA-256 of the file
    description: str = ""  # one line
    doc: str = ""  # the whole docstring
    parameters: Mapping[str, Any] | None = None  # JSON Schema of the object of parameters; None: plain
    isolation: Literal["spawn", "fork", "warm"] = "fork"
    timeout: float = 3600.0  # seconds; 0: none
    concurrency: int = 0  # at once on one node; 0: as many as the node has workers
    retries: int = 0
    broken: str | None = None  # why it cannot be called, with what to do about it


class Sample(Struct, frozen=True, array_like=True, gc=False):
    """One value of a metric: `remoterun.metrics` says what it means, and which labels these are.

    Of a histogram, `value` is the sum of all that was counted, and `buckets` how many lie between two bounds.
    """

    metric: str
    labels: tuple[str, ...]
    value: float
    buckets: tuple[int, ...] = ()


class NodeInfo(Struct, frozen=True, kw_only=True):
    """What a node says about itself, and to whom."""

    node: str  # its name
    version: str  # of remoterun
    python: str
    started: datetime
    transports: Mapping[str, tuple[str, ...]]  # name → addresses
    scripts: int
    load: Load
    enforced: Mapping[str, str]  # limit → by what means, on this machine
    brokers: Mapping[str, str] = msgspec.field(default_factory=dict)  # of queues: transport → `up`, or why not
    counters: Mapping[str, int] = msgspec.field(
        default_factory=dict
    )  # since the start: jobs by state, refusals by code
    metrics: tuple[Sample, ...] | UnsetType = UNSET  # where they were asked for
    principal: str = ""  # who asks
    scopes: tuple[str, ...] = ()  # what that principal may do


class Load(Struct, frozen=True, kw_only=True):
    """How busy a node is, in jobs."""

    queued: int
    running: int
    workers: int  # jobs at once
    queue: int  # how many may wait before `busy`


class JobQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs to list: newest first, those created before the job `before` (a keyset, not an offset).

    `text` is looked for, in letters of either case, in a job's id, script, principal, key, parameters, result and
    error. No index serves it: a page may hold fewer jobs than there are, even none; `next` still says where to go on.
    """

    script: str | None = None
    state: State | None = None
    principal: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: str | None = None
    limit: int = 50  # 1 to 1000


class JobPage(Struct, frozen=True, kw_only=True):
    """A page of jobs; `next` goes into `JobQuery.before` to get the following one."""

    jobs: tuple[Job, ...]
    next: str | None = None


class Refusal(Struct, frozen=True, kw_only=True):
    """A call that was refused: who asked for what, when, and why not."""

    time: datetime
    principal: str | None
    transport: str
    operation: str
    script: str | None
    code: str
    message: str
    peer: str = ""  # where the caller called from


class TokenInfo(Struct, frozen=True, kw_only=True):
    """A token as it is listed: everything but itself."""

    name: str  # of the principal that it proves
    scopes: tuple[str, ...]
    created: datetime
    expires: datetime | None = None


class NewToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to be made: whose, what it may do, for how many seconds (None: for ever)."""

    name: str
    scopes: tuple[str, ...]
    expires: float | None = None


class MadeToken(Struct, frozen=True):
    """A token, this once; `repr` never shows it."""

    name: str
    token: str

    def __repr__(self) -> str:
        return f"MadeToken({self.name!r}, …)"


class Backup(Struct, frozen=True, kw_only=True):
    """A backup that a node made: a data folder as it was."""

    name: str
    path: str  # on the node's machine
    taken: datetime
    bytes: int
    files: int
