"""One connection of the server: who speaks, and the way from bytes to commands to replies.

Pipelined commands run side by side. Nothing here makes a task for a call that the service answers with a future.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from remoterun.errors import Internal, ServiceError, Unauthenticated, Unavailable
from remoterun.service import Origin, Peer
from remoterun_socket import browser, table
from remoterun_socket.answers import Caller, Later, Stream, refusal
from remoterun_socket.command import Command
from remoterun_socket.inline import BrowserRequest, ProtocolError
from remoterun_socket.peers import is_own_user, peer_name, unix_peer
from remoterun_socket.protocol import BEFORE_AUTHENTICATION, CommandParser, error
from remoterun_socket.redis_commands import NOAUTH
from remoterun_socket.replies import Replies, Slot

if TYPE_CHECKING:
    from remoterun_socket.connections import Connections

log = logging.getLogger(__name__)

LINGER: Final = 1.0  # seconds in which a refused caller may read why, before the connection is cut

STRANGERS_PIPELINE: Final = 16  # commands answered and not yet sent, for who has not proved anything

Refuse = Callable[[ServiceError], bytes]


class Connection(asyncio.BufferedProtocol):
    """One caller, from its connection to its end."""

    __slots__ = (
        "_all",
        "_alone",
        "_caller",
        "_closed",
        "_deadline",
        "_ending",
        "_eof",
        "_linger",
        "_loop",
        "_parked",
        "_parser",
        "_reading",
        "_replies",
        "_tls",
        "_transport",
    )

    def __init__(self, connections: Connections, tls: bool) -> None:
        self._all = connections
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._parser = CommandParser()
        self._parked: tuple[Command, list[bytes]] | None = None  # waits until every earlier command was answered
        self._alone: asyncio.Task[Any] | None = None  # the command that runs alone, or the look at a Unix peer
        self._reading = True
        self._eof = False
        self._ending = False  # no command is started any more; what is under way is answered
        self._linger = False  # whether a caller may still be sending what nobody will look at
        self._closed = False
        self._deadline: asyncio.TimerHandle | None = None  # of authentication, later of closing

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._replies = Replies(self, transport, self._all.terms.stall, self._loop)
        transport.set_write_buffer_limits(high=BEFORE_AUTHENTICATION)
        peer = unix_peer(transport)
        number = self._all.admit(self)
        origin = Origin("socket", peer_name(transport, peer))
        self._caller = Caller(self._all.terms.service, origin, number or 0, is_own_user(peer))
        if number is None:
            self._ending = self._closed = True
            transport.write(error("ERR", "too many connections; try again later"))
            transport.close()
        elif peer is None:
            self._settle_session()
        else:
            self._run_alone(self._meet(peer), None)
            self._expect_authentication()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._ending or self._parser.limit > BEFORE_AUTHENTICATION:
            return self._all.scratch
        return self._all.scratch[: max(1, BEFORE_AUTHENTICATION - self._parser.held)]

    def buffer_updated(self, nbytes: int) -> None:
        if not self._ending:
            self._parser.feed(bytes(self._all.scratch[:nbytes]))
            self.proceed()

    def eof_received(self) -> bool:
        self._eof = True
        if self._ending:
            return False
        self.proceed()
        return not self._tls  # `printf … | nc` has closed its half and waits for replies; TLS has no halves

    def pause_writing(self) -> None:
        self._replies.pause()

    def resume_writing(self) -> None:
        self._replies.resume()
        self.proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = True
        self._replies.lose()
        if self._alone is not None:
            self._alone.cancel()
        self._forget_deadline()
        self._all.forget(self)

    def proceed(self) -> None:
        """Start what may be started, and read or close as things stand now."""
        while self._has_room():
            if self._parked is not None:
                (command, words), self._parked = self._parked, None
                self._start_alone(command, words)
                continue
            try:
                found = self._parser.next()
            except ProtocolError as failure:
                self.refuse(error(failure.code, str(failure)))
                return
            if found is None:
                break
            if isinstance(found, BrowserRequest):
                self.refuse(browser.answer(found, self._all.terms.addresses()))
                return
            self._start(found)
        self._regulate()

    def refused(self, failure: ServiceError) -> None:
        """Forget the session if it is no longer one: its token was revoked or has expired."""
        if isinstance(failure, Unauthenticated):
            self._caller.session = None
            self._settle_session()

    def end(self) -> None:
        """Start no further command; close once everything under way was answered."""
        self._ending = True
        self._regulate()

    def refuse(self, reply: bytes) -> None:
        """Send a last reply, and close."""
        self._linger = True
        self._replies.fill(self._replies.add(), reply)
        self.end()

    def stop(self) -> None:
        """Let what is under way end, and close then."""
        self._replies.stop_streams()
        self.end()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _has_room(self) -> bool:
        replies, terms = self._replies, self._all.terms
        if self._ending or self._alone is not None or (self._parked is not None and replies.slots):
            return False
        if self._caller.session is None:
            return replies.writable and len(replies.slots) < STRANGERS_PIPELINE
        return replies.writable and len(replies.slots) < terms.pipeline and replies.held < terms.write_buffer

    def _regulate(self) -> None:
        idle = not self._replies.slots and self._alone is None and self._parked is None
        if self._closed or self._transport.is_closing():
            return
        if idle and (self._ending or self._eof):
            self._close()
        elif not self._eof and self._reading is not (want := self._ending or self._has_room()):
            self._reading = want
            self._transport.resume_reading() if want else self._transport.pause_reading()

    def _close(self) -> None:
        """Close once everything was sent; whoever does not read it in time is cut off.

        A refused caller may still be sending. Closing on it would make its kernel throw the reason away,
        so only our half is closed first, and what it sends is not looked at.
        """
        self._closed = True
        self._forget_deadline()
        unsent = self._transport.get_write_buffer_size()
        self._deadline = self._loop.call_later(self._all.terms.stall if unsent else LINGER, self._transport.abort)
        if self._linger and not self._eof and self._transport.can_write_eof():
            self._transport.write_eof()
            if not self._reading:
                self._transport.resume_reading()
        else:
            self._transport.close()

    def _start(self, words: list[bytes]) -> None:
        command = table.find(words[0])
        replies = self._replies
        if self._caller.session is None and (command is None or not command.public):
            replies.fill(replies.add(), NOAUTH)
        elif command is None:
            name = words[0][:64].decode(errors="replace")
            replies.fill(replies.add(), error("ERR", f"unknown command '{name}'; HELP lists them"))
        elif not command.takes(len(words)):
            text = f"wrong number of arguments; write {command.syntax}"
            replies.fill(replies.add(), error("ERR", text))
        elif command.alone and replies.slots:
            self._parked = command, words
        elif command.alone:
            self._start_alone(command, words)
        else:
            self._answer(command, words)

    def _start_alone(self, command: Command, words: list[bytes]) -> None:
        answer = command.handler(self._caller, words)
        if not isinstance(answer, Coroutine):
            raise TypeError(f"{command.name} runs alone and answers at once")
        self._run_alone(answer, self._replies.add())

    def _run_alone(self, coroutine: Coroutine[Any, Any, Any], slot: Slot | None) -> None:
        self._alone = self._loop.create_task(coroutine)
        self._alone.add_done_callback(partial(self._end_alone, slot))

    def _end_alone(self, slot: Slot | None, task: asyncio.Task[Any]) -> None:
        self._alone = None
        if self._replies.lost:
            return
        self._settle_session()
        if slot is not None:
            self._told(slot, refusal, task)
        elif not task.cancelled() and (failure := task.exception()) is not None:
            self._reply_to(failure, refusal)
        self.proceed()

    async def _meet(self, peer: Peer) -> None:
        """Open a session for the process at the other end, if its user needs no token."""
        try:
            self._caller.session = await self._caller.service.authenticate(peer, self._caller.origin)
        except Unauthenticated:
            log.debug("%s needs a token", self._caller.origin.peer)

    def _answer(self, command: Command, words: list[bytes]) -> None:
        slot = self._replies.add()
        try:
            answer = command.handler(self._caller, words)
        except Exception as failure:
            self._replies.fill(slot, self._reply_to(failure, refusal))
            return
        if isinstance(answer, Later):
            self._await(slot, answer)
        elif isinstance(answer, bytes):
            self._replies.fill(slot, answer)
        elif isinstance(answer, Stream):
            self._replies.stream(slot, answer)
        else:
            self._tell(slot, answer, refusal)
        if command.closes:
            self.end()

    def _await(self, slot: Slot, later: Later) -> None:
        future = asyncio.ensure_future(later.awaitable)
        future.add_done_callback(partial(self._ended, slot, later))
        if future is later.awaitable:  # the service's own future: it keeps it, and it alone cancels it
            return
        if later.acts:
            self._all.keep(future)
        else:
            slot.task = future

    def _ended(self, slot: Slot, later: Later, future: asyncio.Future[Any]) -> None:
        if self._replies.lost:
            if not future.cancelled():
                future.exception()  # seen: asyncio would complain of an error that nobody looked at
            return
        try:
            reply = later.render(self._caller, future.result())
        except (Exception, asyncio.CancelledError) as failure:
            reply = self._reply_to(failure, later.refuse)
        if isinstance(reply, bytes):
            self._replies.fill(slot, reply)
        else:
            self._tell(slot, reply, later.refuse)

    def _tell(self, slot: Slot, coroutine: Coroutine[Any, Any, bytes], refuse: Refuse) -> None:
        slot.task = self._loop.create_task(coroutine)
        slot.task.add_done_callback(partial(self._told, slot, refuse))

    def _told(self, slot: Slot, refuse: Refuse, task: asyncio.Future[bytes]) -> None:
        try:
            reply = task.result()
        except (Exception, asyncio.CancelledError) as failure:
            if self._replies.lost:
                return
            reply = self._reply_to(failure, refuse)
        self._replies.fill(slot, reply)

    def _reply_to(self, failure: BaseException, refuse: Refuse) -> bytes:
        if isinstance(failure, asyncio.CancelledError):
            return refuse(Unavailable("the node is stopping"))
        if isinstance(failure, ServiceError):
            self.refused(failure)
            return refuse(failure)
        log.error("a command failed", exc_info=failure)
        return refuse(Internal("a defect of remoterun; the node's log says more"))

    def _settle_session(self) -> None:
        if self._caller.session is None:
            self._parser.limit = BEFORE_AUTHENTICATION
            self._transport.set_write_buffer_limits(high=BEFORE_AUTHENTICATION)
            if self._deadline is None and not self._ending:
                self._expect_authentication()
        else:
            self._parser.limit = self._all.terms.max_request
            self._transport.set_write_buffer_limits(high=self._all.terms.write_buffer)
            if not self._ending:
                self._forget_deadline()

    def _expect_authentication(self) -> None:
        self._deadline = self._loop.call_later(self._all.terms.auth_timeout, self._too_late)

    def _too_late(self) -> None:
        self._deadline = None
        if self._alone is not None:
            self._alone.cancel()
        self.refuse(error("NOAUTH", f"no authentication within {self._all.terms.auth_timeout:g} s"))

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
