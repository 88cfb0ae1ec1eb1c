"""What a connection may hold and how long it may take, before and after its caller has proved who it is.

uvicorn alone keeps silent and half-sent requests for as long as the peer likes, reads heads without a limit and
64 KiB of a body before anyone looks at the token.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from http import HTTPStatus
from typing import Any, cast

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from remoterun.errors import ServiceError, Unavailable
from remoterun_http.answers import HttpError, refusal
from remoterun_http.requests import PROVED, UPLOADING

UNPROVED = 8 * 1024  # bytes held of a request whose caller is unknown; and of any request's head
_PROVED_READ = 64 * 1024
_PIECE = 256 * 1024  # bytes of a file that must arrive in the time that any other request has as a whole
_STALLED = 60.0  # seconds that a reader may take none of its answer


class Bounds:
    """The bounds of one server's connections.

    Parameters:
        auth_timeout: seconds in which a connection must have brought a request with a valid token.
        request_timeout: seconds in which each later request must have arrived once it began.
        connections: how many there may be at once.
    """

    def __init__(self, *, auth_timeout: float, request_timeout: float, connections: int) -> None:
        self.auth_timeout = auth_timeout
        self.request_timeout = request_timeout
        self._most = connections
        self._count = 0
        self._unproved: OrderedDict[Connection, None] = OrderedDict()
        # One buffer for all: what is read is copied out before the loop reads again.
        self.small = memoryview(bytearray(UNPROVED))
        self.large = memoryview(bytearray(_PROVED_READ))

    def protocol(self, config: Config, state: ServerState) -> asyncio.BufferedProtocol:
        """Make what a new connection is handed to."""
        return _Reader(Connection(self, config, state), self)

    def admit(self, connection: Connection) -> bool:
        """Count a connection in, the oldest unproved one making room when there is none."""
        if self._count >= self._most:
            if not self._unproved:
                return False
            self._unproved.popitem(last=False)[0].abort()
        self._count += 1
        self._unproved[connection] = None
        return True

    def proved(self, connection: Connection) -> None:
        """Take it that a connection's caller is known."""
        self._unproved.pop(connection, None)

    def lost(self, connection: Connection) -> None:
        """Count a connection out."""
        self._count -= 1
        self._unproved.pop(connection, None)


class _Reader(asyncio.BufferedProtocol):
    """Reads no more at once than may be held; a plain protocol is given what the loop likes, up to 256 KiB."""

    def __init__(self, connection: Connection, bounds: Bounds) -> None:
        self._connection = connection
        self._small = bounds.small
        self._large = bounds.large
        self.connection_made = connection.connection_made  # type: ignore[method-assign,assignment]
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]
        self.eof_received = connection.eof_received  # type: ignore[method-assign]
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]

        self._given = bounds.small

    def get_buffer(self, sizehint: int) -> memoryview:
        room = self._connection.room()
        self._given = self._large if room is None else self._small[:room]
        return self._given

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.data_received(bytes(self._given[:nbytes]))


class Connection(HttpToolsProtocol):
    """One connection within its bounds."""

    def __init__(self, bounds: Bounds, config: Config, state: ServerState) -> None:
        super().__init__(config, state, app_state={})
        self._bounds = bounds
        self._admitted = False
        self._proved = False
        self._request_proved = False
        self._arriving = False  # a request has begun and is not whole
        self._completed = False  # a request became whole in the read under way
        self._in_head = False
        self._head = 0  # bytes read of the head under way
        self._piece: int | None = None  # bytes read of the piece under way, of a request that sends files
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._admitted = self._bounds.admit(self)
        super().connection_made(transport)
        if not self._admitted:
            self._refuse(Unavailable("too many connections; try again", retry_after=1))
            return
        self._deadline = self.loop.call_later(self._bounds.auth_timeout, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._admitted:
            self._bounds.lost(self)
        for timer in (self._deadline, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def room(self) -> int | None:
        """How many bytes may be read next; None for the body of a caller who is known."""
        return None if self._arriving and self._request_proved else UNPROVED - self._head

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._completed = False
        super().data_received(data)
        if self.transport.is_closing() or not self._arriving:
            return
        if self._in_head:
            # The tail of a read that brought whole requests too counts from the next read on.
            self._head += 0 if self._completed else len(data)
            if self._head >= UNPROVED:
                self._refuse(HttpError(431, f"the head of the request is larger than {UNPROVED} bytes"))
                return
        elif not self._request_proved and not self.cycle.response_complete:
            self.flow.pause_reading()  # until the application, knowing the caller, asks for the body
        elif self._piece is not None and not self.cycle.response_complete:
            self._count_piece(len(data))
        if self._proved and self._deadline is None:
            self._deadline = self.loop.call_later(self._bounds.request_timeout, self._late)

    def _count_piece(self, count: int) -> None:
        """Give a request that sends files as much time again for each piece of them."""
        self._piece = (self._piece or 0) + count
        if self._piece >= _PIECE:
            self._piece = 0
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope).update({PROVED: self._prove, UPLOADING: self._expect_files})
        self._arriving = self._in_head = True
        self._request_proved = False
        self._head = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._arriving = False
        self._piece = None
        self._completed = True
        if self._proved and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(_STALLED, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(HttpError(400, "this is no valid HTTP/1.1 request"))

    def abort(self) -> None:
        """Close at once, whatever is still to be written."""
        self.transport.abort()

    def _prove(self) -> None:
        self._request_proved = True
        if self._proved:
            return
        self._proved = True
        self._bounds.proved(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._arriving:
            self._deadline = self.loop.call_later(self._bounds.request_timeout, self._late)

    def _expect_files(self) -> None:
        if self._arriving:
            self._piece = 0

    def _late(self) -> None:
        self._deadline = None
        if self.transport.get_write_buffer_size():  # the peer does not even take what was written
            self.transport.abort()
        elif self._arriving:
            self._refuse(HttpError(408, "the request did not arrive in time"))
        else:
            self.transport.close()

    def _may_answer(self) -> bool:
        """Whether what is written now would be read as the answer to the request that is at fault."""
        if self.cycle is None or self.cycle.response_complete:
            return True
        return not (self._in_head or self.pipeline or self.cycle.response_started)

    def _refuse(self, error: ServiceError) -> None:
        if not self._may_answer():
            self.transport.close()
            return
        answer = refusal(error)
        head = [
            b"HTTP/1.1 %d %s" % (answer.status, HTTPStatus(answer.status).phrase.encode()),
            b"content-type: " + answer.media_type,
            b"content-length: %d" % len(answer.body),
            b"connection: close",
            *(name + b": " + value for name, value in answer.headers),
        ]
        self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + answer.body)
        self.transport.close()
