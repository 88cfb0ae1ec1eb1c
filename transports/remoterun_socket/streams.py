"""Answers in pieces: a job's events, and the bytes of an artifact.

`EVENTS id [AFTER n]` answers with a message for each event and an end marker:

- RESP3: push messages `>2 "event" <json>`, then the command's own reply, the array `*2 "end" :n`.
- RESP2: arrays `*2 "event" <json>`, closed by the array `*2 "end" :n`.

`n` is the number of the last event. An error reply in place of the end marker says from where to resume. The
connection then serves the commands that follow.

`ARTIFACT id name` answers with one bulk string. `ARTIFACT id name STREAM` answers with messages as `EVENTS` does:
`"artifact" <json>`, which describes the file, `"chunk" <bytes>` for each piece, and `"end" :size`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from remoterun.errors import Internal, ServiceError
from remoterun.messages import encode
from remoterun_socket.answers import Caller, Stream, refusal
from remoterun_socket.protocol import bulk_header, push
from remoterun_socket.protocol import encode as encode_value


class EventStream(Stream):
    """A job's events, from a number on."""

    def __init__(self, caller: Caller, job_id: str, after: int) -> None:
        self._caller = caller
        self._job_id = job_id
        self._last = after

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        resp3 = self._caller.resp3
        async with AsyncExitStack() as stack:
            events = self._caller.proved().events(self._job_id, self._last)
            close_with(stack, events)
            async for event in events:
                self._last = event.n
                yield push(b"event", encode(event), resp3)
        yield encode_value(["end", self._last], resp3)

    def broken(self, error: ServiceError) -> bytes:
        if error.code != "unavailable":
            return refusal(error)
        hint = f"resume with EVENTS {self._job_id} AFTER {self._last}"
        return refusal(type(error)(f"{error.message}; {hint}", retry_after=error.retry_after))


class ArtifactStream(Stream):
    """An artifact as messages, with its description."""

    def __init__(self, caller: Caller, job_id: str, name: str) -> None:
        self._caller = caller
        self._job_id = job_id
        self._name = name

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        resp3 = self._caller.resp3
        opened = await self._caller.proved().open_artifact(self._job_id, self._name)
        yield push(b"artifact", encode(opened.info), resp3)
        size = 0
        async with AsyncExitStack() as stack:
            close_with(stack, opened.chunks)
            async for chunk in opened.chunks:
                size += len(chunk)
                yield push(b"chunk", chunk, resp3)
        yield encode_value(["end", size], resp3)

    def broken(self, error: ServiceError) -> bytes:
        return refusal(error)


class ArtifactBulk(Stream):
    """An artifact as one bulk string, sent as it is read."""

    def __init__(self, caller: Caller, job_id: str, name: str) -> None:
        self._caller = caller
        self._job_id = job_id
        self._name = name
        self._begun = False

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        opened = await self._caller.proved().open_artifact(self._job_id, self._name)
        self._begun = True
        yield bulk_header(opened.info.size)
        left = opened.info.size
        async with AsyncExitStack() as stack:
            close_with(stack, opened.chunks)
            async for chunk in opened.chunks:
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
        if left:
            raise Internal(f"artifact {self._name} is not as large as its record says")
        yield b"\r\n"

    def broken(self, error: ServiceError) -> bytes | None:
        return None if self._begun else refusal(error)


def close_with(stack: AsyncExitStack, iterator: AsyncIterator[Any]) -> None:
    """Close an iterator with the stack, where it can be closed: what it holds is let go of at once."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        stack.push_async_callback(close)
