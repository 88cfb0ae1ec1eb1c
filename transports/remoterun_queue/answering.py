"""The life of a message that a queue delivered: read, proved, carried out, settled, answered.

A job request is settled once its job is durable, not when its script ends: brokers cut off consumers that hold a
message for long. A plain one, which came without `op`, waits here while the node has no room for it, and is put aside
with the reason where it is refused. A request with `op` that can be answered is one side of a conversation: whatever
is wrong with it is answered and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from remoterun.errors import Busy, Internal, ServiceError, TooLarge, Unauthenticated, Unavailable
from remoterun.messages import Job
from remoterun.operations import OPERATIONS, STREAMS
from remoterun.service import AsyncService, AsyncSession, Mapped, Origin
from remoterun.session_cache import SessionCache
from remoterun_queue import envelope
from remoterun_queue.envelope import Credit, Request, Unreadable
from remoterun_queue.exchange import Exchange, Gone
from remoterun_queue.streams import Streams

logger = logging.getLogger(__name__)

T = TypeVar("T")

OnJob = Callable[[AsyncSession, Job], None]

_RETRY_FIRST, _RETRY_MOST = 0.2, 5.0  # seconds between attempts to hand a waiting message to a node without room


class Answering:
    """Serves the messages of one transport.

    Parameters:
        service: the node.
        transport: the transport's name, for the records.
        principal: whom messages without a token are from, as the configuration names it; empty: nobody.
        largest: bytes of the largest message taken.
        on_job: is told of each job that became durable, with the session that it belongs to.
    """

    def __init__(
        self, service: AsyncService, transport: str, *, principal: str, largest: int, on_job: OnJob | None = None
    ) -> None:
        self._service = service
        self._transport = transport
        self._principal = principal
        self._largest = largest
        self._on_job = on_job
        self._sessions = SessionCache(service, transport)
        self._mapped: dict[str, AsyncSession] = {}
        self._streams = Streams()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: dict[Hashable, set[asyncio.Task[Any]]] = {}  # by reader: what changes nothing

    @property
    def under_way(self) -> int:
        """How many messages are being served."""
        return len(self._tasks)

    def start(
        self, exchange: Exchange, body: bytes, *, key: str | None = None, trace: str | None = None
    ) -> asyncio.Task[None]:
        """Serve a message, without waiting for the end of that; see `handle`."""
        return self._watch(asyncio.ensure_future(self.handle(exchange, body, key=key, trace=trace)))

    def put_aside(self, exchange: Exchange, error: ServiceError) -> None:
        """Refuse a message unread, without waiting for the end of that."""
        self._watch(asyncio.ensure_future(self._put_aside(exchange, error)))

    def _watch(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def forget(self, reader: Hashable) -> None:
        """End what a reader that has gone was only looking at; what it has begun goes on."""
        for task in self._looking.pop(reader, ()):
            task.cancel()

    @contextmanager
    def _only_looking(self, reader: Hashable | None) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        tasks = self._looking.setdefault(reader, set())
        tasks.add(task)
        try:
            yield
        finally:
            tasks.discard(task)
            if not tasks and self._looking.get(reader) is tasks:
                del self._looking[reader]

    async def _put_aside(self, exchange: Exchange, error: ServiceError) -> None:
        try:
            await exchange.refuse(error)
        except Gone as gone:
            logger.debug("a message over %s: %s", self._transport, gone)

    async def stop(self, grace: float) -> None:
        """Give what is under way `grace` seconds, then break it off: a broker delivers it again."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def handle(
        self, exchange: Exchange, body: bytes, *, key: str | None = None, trace: str | None = None
    ) -> None:
        """Serve a message from its bytes to its last answer.

        Parameters:
            key: the idempotency key of a job request that names none.
            trace: the W3C traceparent of a job request that names none.
        """
        try:
            await self._handle(exchange, body, key, trace)
        except Gone as gone:
            logger.debug("a message over %s: %s", self._transport, gone)
        except Exception:
            logger.exception("a message over %s was not served", self._transport)

    async def _handle(self, exchange: Exchange, body: bytes, key: str | None, trace: str | None) -> None:
        can_answer = exchange.reader is not None
        try:
            request = envelope.read_request(body, can_answer=can_answer, key=key, trace=trace, largest=self._largest)
        except (Unreadable, TooLarge) as error:
            await exchange.refuse(error)
            if can_answer:
                await exchange.answer(envelope.refusal(getattr(error, "id", None), error))
            return
        try:
            await self._serve(exchange, request)
        except ServiceError as error:
            await self._refuse(exchange, request, error)
        except Gone:
            raise
        except Exception as error:
            logger.exception("%s over %s", request.operation, self._transport)
            await self._refuse(exchange, request, Internal(f"a defect of remoterun: {type(error).__name__}"))

    async def _refuse(self, exchange: Exchange, request: Request, error: ServiceError) -> None:
        if request.is_plain or exchange.reader is None:
            await exchange.refuse(error)
        else:
            await exchange.accept()
        if isinstance(error, Unauthenticated):
            exchange.disproved()
        if exchange.reader is not None:
            await exchange.answer(envelope.refusal(request.id, error))

    async def _serve(self, exchange: Exchange, request: Request) -> None:
        if isinstance(request.fields, Credit):
            await exchange.accept()
            self._streams.grant(exchange.reader, request.id, request.fields.n)
            return
        session = await self._prove(request, exchange)
        exchange.proved()
        if request.operation in ("run", "submit"):
            await self._start_job(exchange, request, session)
        elif request.operation in OPERATIONS and OPERATIONS[request.operation].acts:
            await self._answer(exchange, request, session)
        else:
            with self._only_looking(exchange.reader):
                await self._answer(exchange, request, session)

    async def _answer(self, exchange: Exchange, request: Request, session: AsyncSession) -> None:
        if request.operation in STREAMS:
            await exchange.accept()
            if exchange.reader is not None:
                await self._streams.send(exchange, request, session)
            return
        value = await self._kept(request, exchange, OPERATIONS[request.operation].invoke(session, request.fields))
        await exchange.accept()
        if exchange.reader is not None:
            await exchange.answer(envelope.answer(request, value, session.principal))

    async def _start_job(self, exchange: Exchange, request: Request, session: AsyncSession) -> None:
        wants_end = request.operation == "run" and exchange.reader is not None
        if wants_end and not exchange.is_kept:  # nothing waits for the disk
            job = await self._kept(request, exchange, session.run(request.fields))
        elif wants_end:
            job, end = await self._admitted(exchange, request, lambda: session.begin(request.fields))
            await self._accept(exchange, session, job)
            job = await end()
        else:
            job = await self._admitted(exchange, request, lambda: session.submit(request.fields))
            await self._accept(exchange, session, job)
        if exchange.reader is not None:
            await exchange.answer(envelope.answer(request, job, session.principal))

    async def _accept(self, exchange: Exchange, session: AsyncSession, job: Job) -> None:
        if self._on_job is not None:
            self._on_job(session, job)
        await exchange.accept()

    async def _admitted(self, exchange: Exchange, request: Request, admit: Callable[[], Awaitable[T]]) -> T:
        """Have a job admitted; a plain request waits until the node has room for it."""
        pause = _RETRY_FIRST
        while True:
            if exchange.is_gone:
                raise Gone("the broker delivers the message again")
            try:
                return await self._kept(request, exchange, admit())
            except (Busy, Unavailable) as error:
                if not request.is_plain or error.retry_after is None:  # a broken script is refused for good
                    raise
                await asyncio.sleep(max(pause, min(error.retry_after, _RETRY_MOST)))
                pause = min(2 * pause, _RETRY_MOST)

    async def _prove(self, request: Request, exchange: Exchange) -> AsyncSession:
        if request.token is not None:
            key = (request.token, exchange.peer)
            return self._sessions.cached(key) or await self._sessions.open(key)
        principal = self._principal or exchange.principal
        if not principal:
            raise Unauthenticated(
                f"show a token, or name who sends messages without one: principal in section [{self._transport}]"
            )
        if principal not in self._mapped:
            origin = Origin(self._transport, exchange.peer)
            self._mapped[principal] = await self._service.authenticate(Mapped(principal), origin)
        return self._mapped[principal]

    async def _kept(self, request: Request, exchange: Exchange, answer: Awaitable[T]) -> T:
        """Await what a session answers; forget the session whose token is no longer valid."""
        try:
            return await answer
        except Unauthenticated:
            if request.token is not None:
                self._sessions.drop((request.token, exchange.peer))
            raise
