"""What the blocking and the asyncio client have in common: greeting, and what a broken wire means; pure."""

from __future__ import annotations

from typing import Any, Final

from remoterun.errors import Internal, Unauthenticated, Unavailable
from remoterun.messages import ArtifactInfo, Event
from remoterun.operations import decode_answer
from remoterun.service import Credential, Origin, Peer, Token
from remoterun_socket.address import Address
from remoterun_socket.calls import service_error
from remoterun_socket.protocol import ErrorReply, encode_command

RECEIVE: Final = 64 * 1024  # bytes taken from the kernel at once
LAST_WORDS: Final = 1.0  # seconds in which a node that closed on a request may have said why


def greeting(credential: Credential, address: Address, origin: Origin | None = None) -> list[bytes]:
    """Give the commands that prove a credential; the reply to the last one is the principal's name.

    Parameters:
        origin: for whom a gateway calls; None: for itself.

    Raises:
        Unauthenticated: this wire cannot carry the credential.
    """
    whoami = encode_command(b"ACL", b"WHOAMI")
    if isinstance(credential, Token):
        commands = [encode_command(b"AUTH", credential.value.encode()), whoami]
        if origin is not None:
            named = encode_command(b"CLIENT", b"ORIGIN", origin.transport.encode(), origin.peer.encode())
            commands.insert(0, named)
        return commands
    if isinstance(credential, Peer) and address.scheme == "unix":
        return [whoami]
    raise Unauthenticated(f"{address} takes a token")


def principal(replies: list[Any]) -> str:
    """Read the replies to the greeting.

    Raises:
        Unauthenticated: the credential is wrong.
        Unavailable: the node has no room for another connection, or something else answers there.
    """
    for reply in replies:
        if isinstance(reply, ErrorReply):
            failure = service_error(reply)
            raise Unavailable(failure.message) if isinstance(failure, Internal) else failure
    name = replies[-1]
    if not isinstance(name, bytes):
        raise Unavailable("what answers there is no remoterun")
    return name.decode()


def ends_connection(reply: Any) -> bool:
    """Tell whether a node closes the connection with this answer to a call: then the error is no JSON."""
    return isinstance(reply, ErrorReply) and not reply.message.startswith("{")


def message(reply: Any, *kinds: bytes) -> tuple[bytes, bytes] | None:
    """Read a message of a stream: its kind and its bytes, or None for the end.

    Raises:
        ServiceError: the stream ended with this error.
    """
    match reply:
        case ErrorReply():
            raise service_error(reply)
        case [b"end", int()]:
            return None
        case [bytes(kind), bytes(data)] if kind in kinds:
            return kind, data
    raise Internal("the node sent a message that this version does not know")


def event(data: bytes) -> Event:
    """Decode an event."""
    value: Event = decode_answer(data, Event)
    return value


def artifact_info(first: tuple[bytes, bytes] | None) -> ArtifactInfo:
    """Decode what the first message of an artifact says."""
    if first is None:
        raise Internal("the node did not describe the artifact")
    value: ArtifactInfo = decode_answer(first[1], ArtifactInfo)
    return value
