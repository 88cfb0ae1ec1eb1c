"""What every transport stands between: `Service` opens a `Session`; a session has the operations.

Two shapes, asyncio and blocking, with one adapter each way. The dispatcher implements the asyncio
shape; a transport's client half implements the one that is natural to its library; a server half
consumes the asyncio one.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from msgspec import Struct

from remoterun.messages import (
    ArtifactInfo,
    Backup,
    Event,
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
)

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
T = TypeVar("T")


class Token(Struct, frozen=True):
    """A token that the caller showed; `repr` never shows it."""

    value: str

    def __repr__(self) -> str:
        return "Token(…)"


class Peer(Struct, frozen=True):
    """The process at the other end of a Unix socket, as the kernel names it."""

    uid: int
    gid: int
    pid: int


class Mapped(Struct, frozen=True):
    """A caller that holds no token of ours and whom the configuration names (a queue's publishers)."""

    principal: str


Credential = Token | Peer | Mapped


class Origin(Struct, frozen=True):
    """Where a call came from: the transport's name and the peer's address, as text."""

    transport: str
    peer: str = ""


class AsyncArtifact(Struct, frozen=True):
    """A file that a job left: what it is, and its bytes in chunks.

    `chunks_from` gives those from a byte on, where that is cheaper than reading what is before.
    """

    info: ArtifactInfo
    chunks: AsyncIterator[bytes]
    chunks_from: Callable[[int], AsyncIterator[bytes]] | None = None

    async def part(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Iterate over the bytes from `start` up to, and without, `stop`."""
        at, chunks = (0, self.chunks) if self.chunks_from is None else (start, self.chunks_from(start))
        async for chunk in chunks:
            piece = chunk[max(start - at, 0) : max(stop - at, 0)]
            at += len(chunk)
            if piece:
                yield piece
            if at >= stop:
                return


class Artifact(Struct, frozen=True):
    """A file that a job left: what it is, and its bytes in chunks."""

    info: ArtifactInfo
    chunks: Iterator[bytes]

    def read(self) -> bytes:
        """Give all of its bytes."""
        return b"".join(self.chunks)


class AsyncSession(ABC):
    """The operations, for one proved principal. Every method may raise any `ServiceError`."""

    @property
    @abstractmethod
    def principal(self) -> str:
        """The name of the principal that this session speaks for."""

    @abstractmethod
    def info(self, metrics: bool = False) -> Awaitable[NodeInfo]:
        """Describe the node: version, transports, load; with its metrics where they are asked for."""

    @abstractmethod
    def list_scripts(self, pattern: str = "*") -> Awaitable[list[ScriptInfo]]:
        """List the scripts whose names match a glob, by name."""

    @abstractmethod
    def get_script(self, name: str) -> Awaitable[ScriptInfo]:
        """Describe one script, with its parameter schema."""

    @abstractmethod
    def run(self, request: JobRequest) -> Awaitable[Job]:
        """Start a job and give it once it ended, however it ended."""

    async def begin(self, request: JobRequest) -> tuple[Job, Callable[[], Awaitable[Job]]]:
        """Start a job as `run` does, and give it as soon as it is durable, with what waits for its end.

        It is no operation of its own: a queue's server half needs both halves of `run`, one to acknowledge, one to
        answer.
        """
        job = await self.submit(request)
        return job, lambda: self.wait(job.id)

    @abstractmethod
    def submit(self, request: JobRequest) -> Awaitable[Job]:
        """Give the job as soon as it is durable."""

    @abstractmethod
    def get_job(self, job_id: str) -> Awaitable[Job]:
        """Give one job as it stands."""

    @abstractmethod
    def list_jobs(self, query: JobQuery) -> Awaitable[JobPage]:
        """Give a page of jobs, newest first: the caller's own, or all with the scope `read:all`."""

    @abstractmethod
    def wait(self, job_id: str, timeout: float | None = None) -> Awaitable[Job]:
        """Give the job once it ended, or as it stands after `timeout` seconds."""

    @abstractmethod
    def events(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Iterate over the job's events with numbers above `after`, then live ones, to the final one."""

    @abstractmethod
    def cancel(self, job_id: str) -> Awaitable[Job]:
        """Stop a job and its whole process tree; give it once it ended. A job that has ended stays as it is."""

    @abstractmethod
    def rerun(self, job_id: str, newest: bool = False) -> Awaitable[Job]:
        """Submit an ended job's request again, with the same version of the script or its newest."""

    @abstractmethod
    def open_artifact(self, job_id: str, name: str) -> Awaitable[AsyncArtifact]:
        """Open a file that the job left."""

    @abstractmethod
    def list_refusals(self, limit: int = 50) -> Awaitable[list[Refusal]]:
        """List the newest refused calls (scope `read:all`)."""

    @abstractmethod
    def list_tokens(self) -> Awaitable[list[TokenInfo]]:
        """List the tokens by name (scope `admin`, as of all operations on tokens)."""

    @abstractmethod
    def new_token(self, wanted: NewToken) -> Awaitable[MadeToken]:
        """Make a token and give it; nobody can see it again."""

    @abstractmethod
    def revoke_token(self, name: str) -> Awaitable[None]:
        """Make a token worthless, on open connections too."""

    @abstractmethod
    def backup(self) -> Awaitable[Backup]:
        """Make a copy of the node's data, on the node's machine (scope `admin`); give it once it is whole."""


class AsyncService(ABC):
    """The door: nothing can be asked without a principal."""

    @abstractmethod
    async def authenticate(self, credential: Credential, origin: Origin) -> AsyncSession:
        """Prove a credential and open a session for its principal.

        Raises:
            Unauthenticated: the credential is wrong, expired or revoked.
        """

    async def aclose(self) -> None:  # noqa: B027 - most services hold nothing to close
        """Let go of what the service holds: connections, threads."""


class Session(ABC):
    """The operations in their blocking shape; the meaning of each is that of `AsyncSession`."""

    @property
    @abstractmethod
    def principal(self) -> str:
        """The name of the principal that this session speaks for."""

    @abstractmethod
    def info(self, metrics: bool = False) -> NodeInfo:
        """Describe the node: version, transports, load; with its metrics where they are asked for."""

    @abstractmethod
    def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        """List the scripts whose names match a glob, by name."""

    @abstractmethod
    def get_script(self, name: str) -> ScriptInfo:
        """Describe one script, with its parameter schema."""

    @abstractmethod
    def run(self, request: JobRequest) -> Job:
        """Start a job and give it once it ended, however it ended."""

    @abstractmethod
    def submit(self, request: JobRequest) -> Job:
        """Give the job as soon as it is durable."""

    @abstractmethod
    def get_job(self, job_id: str) -> Job:
        """Give one job as it stands."""

    @abstractmethod
    def list_jobs(self, query: JobQuery) -> JobPage:
        """Give a page of jobs, newest first."""

    @abstractmethod
    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Give the job once it ended, or as it stands after `timeout` seconds."""

    @abstractmethod
    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """Iterate over the job's events with numbers above `after`, then live ones, to the final one."""

    @abstractmethod
    def cancel(self, job_id: str) -> Job:
        """Stop a job and its whole process tree; give it once it ended."""

    @abstractmethod
    def rerun(self, job_id: str, newest: bool = False) -> Job:
        """Submit an ended job's request again."""

    @abstractmethod
    def open_artifact(self, job_id: str, name: str) -> Artifact:
        """Open a file that the job left."""

    @abstractmethod
    def list_refusals(self, limit: int = 50) -> list[Refusal]:
        """List the newest refused calls."""

    @abstractmethod
    def list_tokens(self) -> list[TokenInfo]:
        """List the tokens by name."""

    @abstractmethod
    def new_token(self, wanted: NewToken) -> MadeToken:
        """Make a token and give it; nobody can see it again."""

    @abstractmethod
    def revoke_token(self, name: str) -> None:
        """Make a token worthless, on open connections too."""

    @abstractmethod
    def backup(self) -> Backup:
        """Make a copy of the node's data, on the node's machine; give it once it is whole."""

    def close(self) -> None:  # noqa: B027 - most sessions hold nothing to close
        """Let go of what the session holds; calling it twice is allowed."""


class Service(ABC):
    """The door, in its blocking shape."""

    @abstractmethod
    def authenticate(self, credential: Credential) -> Session:
        """Prove a credential and open a session for its principal.

        Raises:
            Unauthenticated: the credential is wrong, expired or revoked.
        """

    def close(self) -> None:  # noqa: B027 - most services hold nothing to close
        """Let go of what the service holds."""


OPERATIONS: tuple[str, ...] = tuple(sorted(AsyncSession.__abstractmethods__ - {"principal"}))
"""The names of all operations, from the code itself; the access table is checked against it."""


class BlockingService(Service):
    """Give an asyncio service in the blocking shape, on an event loop in a thread of its own."""

    def __init__(self, open_service: Callable[[], Awaitable[AsyncService]], origin: Origin) -> None:
        import asyncio

        self._origin = origin
        self._loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="remoterun-client", daemon=True)
        self._thread.start()
        self._service = self.call(_awaited(open_service()))

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and give its result; an interrupt cancels it."""
        import asyncio

        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def authenticate(self, credential: Credential) -> Session:
        return _BlockingSession(self, self.call(self._service.authenticate(credential, self._origin)))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.call(self._service.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _BlockingSession(Session):
    def __init__(self, service: BlockingService, session: AsyncSession) -> None:
        self._service = service
        self._session = session

    def _call(self, awaitable: Callable[[], Awaitable[T]]) -> T:
        async def on_the_loop() -> T:  # futures must be made on the loop that completes them
            return await awaitable()

        return self._service.call(on_the_loop())

    @property
    def principal(self) -> str:
        return self._session.principal

    def info(self, metrics: bool = False) -> NodeInfo:
        return self._call(lambda: self._session.info(metrics))

    def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        return self._call(lambda: self._session.list_scripts(pattern))

    def get_script(self, name: str) -> ScriptInfo:
        return self._call(lambda: self._session.get_script(name))

    def run(self, request: JobRequest) -> Job:
        return self._call(lambda: self._session.run(request))

    def submit(self, request: JobRequest) -> Job:
        return self._call(lambda: self._session.submit(request))

    def get_job(self, job_id: str) -> Job:
        return self._call(lambda: self._session.get_job(job_id))

    def list_jobs(self, query: JobQuery) -> JobPage:
        return self._call(lambda: self._session.list_jobs(query))

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        return self._call(lambda: self._session.wait(job_id, timeout))

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        async def open_iterator() -> AsyncIterator[Event]:
            return self._session.events(job_id, after)

        return self._iterate(self._service.call(open_iterator()))

    def cancel(self, job_id: str) -> Job:
        return self._call(lambda: self._session.cancel(job_id))

    def rerun(self, job_id: str, newest: bool = False) -> Job:
        return self._call(lambda: self._session.rerun(job_id, newest))

    def open_artifact(self, job_id: str, name: str) -> Artifact:
        opened = self._call(lambda: self._session.open_artifact(job_id, name))
        return Artifact(opened.info, self._iterate(opened.chunks))

    def list_refusals(self, limit: int = 50) -> list[Refusal]:
        return self._call(lambda: self._session.list_refusals(limit))

    def list_tokens(self) -> list[TokenInfo]:
        return self._call(self._session.list_tokens)

    def new_token(self, wanted: NewToken) -> MadeToken:
        return self._call(lambda: self._session.new_token(wanted))

    def revoke_token(self, name: str) -> None:
        self._call(lambda: self._session.revoke_token(name))

    def backup(self) -> Backup:
        return self._call(self._session.backup)

    def _iterate(self, iterator: AsyncIterator[T]) -> Iterator[T]:
        try:
            while True:
                try:
                    yield self._service.call(_awaited(anext(iterator)))
                except StopAsyncIteration:
                    return
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                with suppress(RuntimeError):  # the loop is gone: so is the iterator
                    self._service.call(close())


class ThreadedService(AsyncService):
    """Give a blocking service in the asyncio shape; each call runs in a thread."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def authenticate(self, credential: Credential, origin: Origin) -> AsyncSession:
        return _ThreadedSession(await _in_thread(self._service.authenticate, credential))

    async def aclose(self) -> None:
        await _in_thread(self._service.close)


class _ThreadedSession(AsyncSession):
    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def principal(self) -> str:
        return self._session.principal

    async def info(self, metrics: bool = False) -> NodeInfo:
        return await _in_thread(self._session.info, metrics)

    async def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        return await _in_thread(self._session.list_scripts, pattern)

    async def get_script(self, name: str) -> ScriptInfo:
        return await _in_thread(self._session.get_script, name)

    async def run(self, request: JobRequest) -> Job:
        return await _in_thread(self._session.run, request)

    async def submit(self, request: JobRequest) -> Job:
        return await _in_thread(self._session.submit, request)

    async def get_job(self, job_id: str) -> Job:
        return await _in_thread(self._session.get_job, job_id)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return await _in_thread(self._session.list_jobs, query)

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        return await _in_thread(self._session.wait, job_id, timeout)

    async def events(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        async for event in _in_threads(self._session.events(job_id, after)):
            yield event

    async def cancel(self, job_id: str) -> Job:
        return await _in_thread(self._session.cancel, job_id)

    async def rerun(self, job_id: str, newest: bool = False) -> Job:
        return await _in_thread(self._session.rerun, job_id, newest)

    async def open_artifact(self, job_id: str, name: str) -> AsyncArtifact:
        opened = await _in_thread(self._session.open_artifact, job_id, name)
        return AsyncArtifact(opened.info, _in_threads(opened.chunks))

    async def list_refusals(self, limit: int = 50) -> list[Refusal]:
        return await _in_thread(self._session.list_refusals, limit)

    async def list_tokens(self) -> list[TokenInfo]:
        return await _in_thread(self._session.list_tokens)

    async def new_token(self, wanted: NewToken) -> MadeToken:
        return await _in_thread(self._session.new_token, wanted)

    async def revoke_token(self, name: str) -> None:
        await _in_thread(self._session.revoke_token, name)

    async def backup(self) -> Backup:
        return await _in_thread(self._session.backup)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    import asyncio  # here, because it costs 30 ms that a command line over the socket need not pay

    return await asyncio.to_thread(function, *args, **kwargs)


async def _in_threads(iterator: Iterator[T]) -> AsyncIterator[T]:
    end = object()
    while (item := await _in_thread(next, iterator, end)) is not end:
        yield item  # type: ignore[misc] # not the end, so an item
