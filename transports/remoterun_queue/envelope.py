"""Messages of queues ↔ requests and answers: one form for ZeroMQ, RabbitMQ and ActiveMQ; pure.

A request is the JSON object `{"op", "id", "token", …the operation's own fields}`. Without `op` it is a plain job
request: `run` where an answer can go somewhere, else `submit`. `id` is the caller's own and comes back in every
answer. `credit` bounds how many messages of a stream are sent before `{"op": "credit", "id", "n"}` grants more.

An answer is `{"id", "ok": true, "job" | "script" | …}` or `{"id", "ok": false, "error"}`. One to `run` also carries the
job's `state` and `result`, one to `info` the caller's `principal`. `events` is answered with `{"id", "event"}`
messages, `open_artifact` with `{"id", "artifact"}` and then `{"id", "chunk_base64"}` messages; both end with
`{"id", "ok": true, "end": true}`, or with an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar, cast

import msgspec
from msgspec import Meta, Raw, Struct

from remoterun.errors import Internal, Invalid, ServiceError, TooLarge, from_body
from remoterun.messages import ArtifactInfo, ErrorBody, Event, Job, JobPage, JobRequest, encode
from remoterun.operations import OPERATIONS, STREAMS, Call, decode_answer

T = TypeVar("T")

RequestId = str | int | None

# Under which name an operation's value stands in an answer; a page of jobs spreads over the answer itself.
_NAMES: Final[Mapping[str, str]] = {
    "info": "info",
    "list_scripts": "scripts",
    "get_script": "script",
    "run": "job",
    "submit": "job",
    "get_job": "job",
    "wait": "job",
    "cancel": "job",
    "rerun": "job",
    "list_refusals": "refusals",
    "list_tokens": "tokens",
    "new_token": "made",
    "revoke_token": "revoked",
    "backup": "backup",
}

_NOTHING: Final = Raw(b"")
_Amount = Annotated[int, Meta(ge=0, le=1_000_000)]


class Credit(Struct, frozen=True):
    """So many more messages of a stream may be sent; none at all: it is read no longer."""

    n: _Amount


class Request(Struct, frozen=True):
    """What a message asks for."""

    operation: str  # of `OPERATIONS` or `STREAMS`, or `credit`
    fields: Any  # the operation's own
    id: RequestId
    token: str | None
    is_plain: bool  # a job request without `op`
    credit: int | None = None  # of a stream; None: as many messages as there are


class Unreadable(Invalid):
    """A message is no request; `id` is what it calls itself, as far as that could be read."""

    def __init__(self, message: str, request_id: RequestId = None) -> None:
        super().__init__(message)
        self.id = request_id


class _Header(Struct, frozen=True):
    op: str | None = None
    id: str | int | None = None
    token: str | None = None
    credit: _Amount | None = None


def _message_type(fields: type[Struct]) -> type[Struct]:
    """Give the type of a whole message: an operation's fields and the envelope's."""
    own = [(info.encode_name, info.type, info.default) for info in msgspec.structs.fields(_Header)]
    return msgspec.defstruct(f"{fields.__name__}Message", own, bases=(fields,), frozen=True, forbid_unknown_fields=True)


_FIELDS: Final[Mapping[str, type[Struct]]] = {
    **{name: operation.fields for name, operation in OPERATIONS.items()},
    **STREAMS,
    "credit": Credit,
}
_MESSAGES: Final[Mapping[str, type[Struct]]] = {name: _message_type(fields) for name, fields in _FIELDS.items()}


def read_request(
    body: bytes,
    *,
    can_answer: bool,
    key: str | None = None,
    trace: str | None = None,
    largest: int | None = None,
) -> Request:
    """Decode a message.

    Parameters:
        body: JSON text.
        can_answer: whether an answer can go somewhere.
        key: the idempotency key of a job request that names none, from the message's properties.
        trace: the W3C traceparent of a job request that names none, from the message's headers.
        largest: bytes; a larger message is refused.

    Raises:
        Unreadable: it is no request.
        TooLarge: it is larger than `largest`.
    """
    if largest is not None and len(body) > largest:
        raise TooLarge(f"the message has {len(body)} bytes; this node takes {largest}")
    header = _decode(body, _Header, None)
    name = header.op
    if name is None:
        name = "run" if can_answer else "submit"
    elif name not in _MESSAGES:
        raise Unreadable(f"there is no op {name[:100]!r}; there are {', '.join(_MESSAGES)}", header.id)
    message = _decode(body, _MESSAGES[name], header.id)
    kind = _FIELDS[name]
    values = {field: getattr(message, field) for field in kind.__struct_fields__}
    if kind is JobRequest:
        values["key"] = key if values["key"] is None else values["key"]
        values["trace"] = trace if values["trace"] is None else values["trace"]
    return Request(name, kind(**values), header.id, header.token, header.op is None, header.credit)


def _decode(body: bytes, kind: type[T], request_id: RequestId) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the message is no request: {error}", request_id) from error


def write_request(call: Call[Any], request_id: str, token: str | None) -> bytes:
    """Encode a call."""
    return _enveloped({"op": call.operation, "id": request_id, "token": token}, call.fields)


def write_stream(operation: str, fields: Struct, request_id: str, token: str | None, credit: int) -> bytes:
    """Encode a request that is answered with many messages."""
    return _enveloped({"op": operation, "id": request_id, "token": token, "credit": credit}, fields)


def write_credit(request_id: str, n: int) -> bytes:
    """Encode the grant of `n` more messages; 0 ends the stream."""
    return encode({"op": "credit", "id": request_id, "n": n})


def _enveloped(header: dict[str, Any], fields: Struct) -> bytes:
    own = encode({name: value for name, value in header.items() if value is not None})
    rest = encode(fields)
    return own if rest == b"{}" else b"%b,%b" % (own[:-1], rest[1:])


def answer(request: Request, value: Any, principal: str) -> bytes:
    """Encode the answer to a request of a principal, who learns the own name from `info`."""
    if isinstance(value, JobPage):
        return _answer(request.id, {"ok": True, "jobs": value.jobs, "next": value.next})
    members: dict[str, Any] = {"ok": True, _NAMES[request.operation]: value}
    if request.operation == "run" and isinstance(value, Job):
        members |= {"state": value.state, "result": value.result_json}
    elif request.operation == "info":
        members["principal"] = principal
    return _answer(request.id, members)


def refusal(request_id: RequestId, error: ServiceError) -> bytes:
    """Encode the answer that a request is refused."""
    return _answer(request_id, {"ok": False, "error": error.body()})


def event(request_id: RequestId, value: Event) -> bytes:
    """Encode an event of a stream."""
    return _answer(request_id, {"event": value})


def artifact(request_id: RequestId, info: ArtifactInfo) -> bytes:
    """Encode the description of the file whose bytes follow."""
    return _answer(request_id, {"artifact": info})


def chunk(request_id: RequestId, data: bytes) -> bytes:
    """Encode a piece of a file."""
    return _answer(request_id, {"chunk_base64": data})


def end(request_id: RequestId) -> bytes:
    """Encode the end of a stream."""
    return _answer(request_id, {"ok": True, "end": True})


def _answer(request_id: RequestId, members: dict[str, Any]) -> bytes:
    return encode(members if request_id is None else {"id": request_id, **members})


class Answer(Struct, frozen=True):
    """What a node sent: the whole answer to a request, or one message of a stream."""

    id: RequestId = None
    ok: bool | None = None
    error: ErrorBody | None = None
    end: bool = False
    event: Raw = _NOTHING
    artifact: ArtifactInfo | None = None
    chunk_base64: bytes | None = None
    info: Raw = _NOTHING
    principal: str = ""
    scripts: Raw = _NOTHING
    script: Raw = _NOTHING
    job: Raw = _NOTHING
    jobs: Raw = _NOTHING
    next: str | None = None
    refusals: Raw = _NOTHING
    tokens: Raw = _NOTHING
    made: Raw = _NOTHING
    revoked: Raw = _NOTHING
    backup: Raw = _NOTHING

    def check(self) -> None:
        """Raise what the answer says is wrong.

        Raises:
            ServiceError: the node refuses.
        """
        if self.ok is False:
            raise from_body(self.error) if self.error else Internal("the node refuses and does not say why")

    def value(self, call: Call[T]) -> T:
        """Give the value that answers a call.

        Raises:
            ServiceError: the call was refused, or the answer is none of ours (`Internal`).
        """
        self.check()
        if call.operation == "list_jobs":
            page: Any = JobPage(jobs=decode_answer(self.jobs, tuple[Job, ...]), next=self.next)
            return cast(T, page)
        return call.result(getattr(self, _NAMES[call.operation]))

    def read_event(self) -> Event:
        """Give the event that this message is.

        Raises:
            Internal: it is none.
        """
        value: Event = decode_answer(self.event, Event)
        return value


def read_answer(body: bytes) -> Answer:
    """Decode what a node sent.

    Raises:
        Internal: it is no answer of ours.
    """
    value: Answer = decode_answer(body, Answer)
    return value
