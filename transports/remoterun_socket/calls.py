"""The exact forms of the operations on this wire: `CALL <operation> <json>`, answered with JSON; pure.

What a person types is friendlier and says less: these forms carry every value as it is, and an error with all of
its fields. Our client half speaks them, blocking and asyncio alike; both ends are described here, once.

An answer is the value in JSON. A refused call is an error reply of the code in capitals and the error in JSON:
`-INVALID {"code":"invalid","message":…,"fields":[…]}`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from remoterun.errors import BY_CODE, Internal, ServiceError, Unauthenticated, from_body
from remoterun.messages import ErrorBody, decode, encode
from remoterun.operations import Call
from remoterun_socket.protocol import ErrorReply, encode_command

T = TypeVar("T")


def command(call: Call[Any]) -> bytes:
    """Give the command that asks a call."""
    return encode_command(b"CALL", call.operation.encode(), encode(call.fields))


def result(call: Call[T], reply: Any) -> T:
    """Give the value that a reply to a call stands for.

    Raises:
        ServiceError: the call was refused, or the reply is none of ours (`Internal`).
    """
    if isinstance(reply, ErrorReply):
        raise service_error(reply)
    return call.result(reply)


def events(job_id: str, after: int) -> bytes:
    """Give the command that streams a job's events."""
    return encode_command(b"EVENTS", job_id.encode(), b"AFTER", b"%d" % after)


def artifact(job_id: str, name: str) -> bytes:
    """Give the command that streams an artifact, its description first."""
    return encode_command(b"ARTIFACT", job_id.encode(), name.encode(), b"STREAM")


def service_error(reply: ErrorReply) -> ServiceError:
    """Give the exception that an error reply stands for."""
    if reply.message.startswith("{"):
        try:
            return from_body(decode(reply.message, ErrorBody))
        except msgspec.DecodeError:
            return Internal(f"{reply.code} {reply.message}")
    if reply.code in ("NOAUTH", "WRONGPASS"):
        return Unauthenticated(reply.message)
    return BY_CODE.get(reply.code.lower(), Internal)(reply.message)
