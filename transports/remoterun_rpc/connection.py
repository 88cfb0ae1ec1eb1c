"""One connection of the server: who speaks, the way from bytes to calls, and its end. There is no thread."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from remoterun.errors import Busy, Invalid, ServiceError, TooLarge, Unauthenticated
from remoterun.service import AsyncSession, Mapped, Origin, Token
from remoterun_rpc import protocol
from remoterun_rpc.arguments import bind
from remoterun_rpc.brine import BrineError
from remoterun_rpc.calls import Calls
from remoterun_rpc.certificates import principal_of
from remoterun_rpc.delivery import Deliveries
from remoterun_rpc.frames import FrameReader, TooLong
from remoterun_rpc.methods import DOCS, LOGIN, LOGIN_DOC, METHODS, Later
from remoterun_rpc.objects import Answer, Invoke, Objects, Refused
from remoterun_rpc.protocol import (
    BEFORE_AUTHENTICATION,
    Message,
    ProtocolError,
    Reference,
    references,
)
from remoterun_rpc.streams import Stream

if TYPE_CHECKING:
    from remoterun_rpc.connections import Connections

log = logging.getLogger(__name__)

OBJECTS: Final = Objects(DOCS)


class _Login(Struct, frozen=True):
    token: str | None = None


class Connection(asyncio.BufferedProtocol):
    """One caller, from its connection to its end."""

    __slots__ = (
        "_all",
        "_calls",
        "_closed",
        "_deadline",
        "_deliveries",
        "_ending",
        "_loop",
        "_lost",
        "_meeting",
        "_origin",
        "_reader",
        "_reading",
        "_session",
        "_transport",
        "_unproved",
        "_watch",
        "_writable",
    )

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(BEFORE_AUTHENTICATION, skips=False)
        self._session: AsyncSession | None = None
        self._unproved = f"call {LOGIN_DOC.partition(':')[0]} first"  # what a caller without a session is told
        self._meeting: asyncio.Task[None] | None = None  # the look at a client certificate; nothing is read meanwhile
        self._reading = True
        self._writable = True
        self._ending = False  # no call is begun any more; what is under way is answered
        self._closed = False
        self._lost = False
        self._deadline: asyncio.TimerHandle | None = None  # of authentication, later of closing
        self._watch: asyncio.TimerHandle | None = None  # over a caller that does not read

    # -- what the transport tells -----------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        terms = self._all.terms
        self._transport = transport
        self._deliveries = Deliveries(transport, terms.unread, terms.stall)
        self._calls = Calls(self, self._deliveries, self._all.keep)
        peer = transport.get_extra_info("peername")
        self._origin = Origin("rpc", f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "")
        if not self._all.admit(self):
            self._ending = self._closed = True
            transport.abort()
            return
        self._settle_session()
        if (principal := principal_of(transport.get_extra_info("peercert"), terms.certificates)) is not None:
            self._meeting = self._loop.create_task(self._meet(principal))
            self._regulate()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._session is not None or self._ending:
            return self._all.scratch
        return self._all.scratch[: max(1, BEFORE_AUTHENTICATION + protocol.AROUND - self._reader.held)]

    def buffer_updated(self, nbytes: int) -> None:
        if not self._ending:
            self._reader.feed(bytes(self._all.scratch[:nbytes]))
            self._proceed()

    def eof_received(self) -> bool:
        return False  # RPyC never closes one half: the caller has gone

    def pause_writing(self) -> None:
        self._writable = False
        self._watch = self._loop.call_later(self._all.terms.stall, self._check, self._unsent)
        self._regulate()

    def resume_writing(self) -> None:
        self._writable = True
        self._forget_watch()
        self._proceed()
        self._regulate()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = self._closed = self._lost = True
        self._forget_watch()
        self._forget_deadline()
        if self._meeting is not None:
            self._meeting.cancel()
        self._calls.lose()
        self._all.forget(self)

    # -- what the server half tells ---------------------------------------------------------------

    def stop(self) -> None:
        """Let what is under way end, streams at once, and close then."""
        self._ending = True
        self._calls.stop_streams()
        self.answered()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # -- what the calls tell ----------------------------------------------------------------------

    def write(self, frame: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(frame)

    def refused(self, failure: ServiceError) -> None:
        if isinstance(failure, Unauthenticated):  # the token is wrong, was revoked, or has expired
            self._session = None
            self._settle_session()

    def answered(self) -> None:
        if self._ending and not self._calls:
            self._close()

    def cut_off(self) -> None:
        self._ending = True
        self._close()

    # -- from bytes to calls ----------------------------------------------------------------------

    def _proceed(self) -> None:
        try:
            while self._writable and not self._ending and (found := self._reader.next()) is not None:
                self._take(found)
        except ProtocolError as failure:
            log.debug("%s: %s", self._origin.peer, failure)
            self._ending = True
            self._close()

    def _take(self, message: Message | TooLong) -> None:
        if message.kind != protocol.REQUEST:
            self._answered(message)
        elif isinstance(message, TooLong):
            limit = self._reader.limit
            self.write(self._calls.refusal(message.number, TooLarge(f"a request may have {limit} bytes at most")))
        else:
            self._request(message)

    def _answered(self, message: Message | TooLong) -> None:
        """Take the answer of a callback: whether it raised. What it returned is let go of, and not looked at."""
        failed = message.kind == protocol.EXCEPTION
        if self._deliveries.answer(message.number, failed) and isinstance(message, Message) and not failed:
            with suppress(BrineError):
                self._let_go(references(protocol.unbox(message.body())))

    def _request(self, message: Message) -> None:
        try:
            handler, arguments = message.request()
        except BrineError as failure:
            text = f"what crosses is None, bool, int, float, str, bytes and tuples of these: {failure}"
            self.write(self._calls.refusal(message.number, Invalid(text)))
            return
        held = references(arguments)
        outcome = OBJECTS.ask(handler, arguments)
        if isinstance(outcome, Invoke):
            self._invoke(message.number, outcome, held)
            return
        self._let_go(held)
        if isinstance(outcome, Answer):
            self.write(protocol.reply(message.number, outcome.value))
        elif isinstance(outcome, Refused):
            self.write(protocol.exception(message.number, outcome.exception))
        else:
            self._ending = True
            self._close()

    def _invoke(self, number: int, invoked: Invoke, held: list[Reference]) -> None:
        try:
            begun = self._begin(invoked)
        except Exception as failure:
            self._let_go(held)
            self.write(self._calls.refusal(number, failure))
            return
        if isinstance(begun, Stream):
            held.remove(begun.callback)
            self._let_go(held)
            self._calls.stream(number, begun)
        else:
            self._let_go(held)
            self._calls.await_later(number, begun, self._session)

    def _begin(self, invoked: Invoke) -> Later | Stream:
        if len(self._calls) >= self._all.terms.calls:
            raise Busy(f"{len(self._calls)} calls are under way on this connection", retry_after=1.0)
        if invoked.method == LOGIN:
            credential = bind(_Login, invoked.args, invoked.kwargs)
            return Later(self._login(credential.token), lambda _, principal: principal)
        if self._session is None:
            raise Unauthenticated(self._unproved)
        return METHODS[invoked.method].begin(self._session, invoked.args, invoked.kwargs)

    def _let_go(self, held: list[Reference]) -> None:
        for reference in held:
            self._deliveries.let_go(reference)

    # -- who speaks -------------------------------------------------------------------------------

    async def _login(self, token: str | None) -> str:
        if token is not None:
            self._session = await self._all.terms.service.authenticate(Token(token), self._origin)
            self._settle_session()
        if self._session is None:
            raise Unauthenticated(self._unproved)
        return self._session.principal

    async def _meet(self, principal: str) -> None:
        """Open a session for the principal that a client certificate stands for."""
        try:
            self._session = await self._all.terms.service.authenticate(Mapped(principal), self._origin)
        except ServiceError as failure:
            self._unproved = failure.message
            log.warning("%s: %s", self._origin.peer, failure.message)
        self._meeting = None
        self._settle_session()
        self._regulate()

    def _settle_session(self) -> None:
        proved = self._session is not None
        self._reader.skips = proved
        self._reader.limit = self._all.terms.max_request if proved else BEFORE_AUTHENTICATION
        if self._ending:
            return
        self._transport.set_write_buffer_limits(high=self._all.terms.unread if proved else BEFORE_AUTHENTICATION)
        self._all.prove(self, proved)
        if proved:
            self._forget_deadline()
        elif self._deadline is None:
            self._deadline = self._loop.call_later(self._all.terms.auth_timeout, self._too_late)

    def _too_late(self) -> None:
        self._deadline = None
        self._ending = True
        self._close()

    # -- the end ----------------------------------------------------------------------------------

    def _close(self) -> None:
        """Close once everything was sent; whoever does not read it in time is cut off."""
        if self._closed:
            return
        self._closed = True
        self._forget_deadline()
        self._deadline = self._loop.call_later(self._all.terms.stall, self._transport.abort)
        self._transport.close()

    def _regulate(self) -> None:
        want = self._ending or (self._writable and self._meeting is None)
        if self._reading is not want and not self._transport.is_closing():
            self._reading = want
            self._transport.resume_reading() if want else self._transport.pause_reading()

    @property
    def _unsent(self) -> int:
        size: int = self._transport.get_write_buffer_size()
        return size

    def _check(self, before: int) -> None:
        """Cut off a caller that has taken nothing since the last look."""
        if self._unsent >= before:
            self._transport.abort()
        else:
            self._watch = self._loop.call_later(self._all.terms.stall, self._check, self._unsent)

    def _forget_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
