"""Sessions of client halves whose wire carries calls as values: the operations, written once above that.

A client half implements how one `Call` is asked, how events are followed, and how an artifact is read.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from remoterun import operations
from remoterun.messages import (
    Backup,
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
from remoterun.operations import Call
from remoterun.sending import with_bytes
from remoterun.service import AsyncSession, Session

T = TypeVar("T")


class CallingSession(Session):
    """The operations over `ask`, in their blocking shape; `events` and `open_artifact` are the wire's own."""

    @abstractmethod
    def ask(self, call: Call[T]) -> T:
        """Ask the node, and give its answer.

        Raises:
            ServiceError: the node refuses, or cannot be reached.
        """

    def info(self, metrics: bool = False) -> NodeInfo:
        return self.ask(operations.info(metrics))

    def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        return self.ask(operations.list_scripts(pattern))

    def get_script(self, name: str) -> ScriptInfo:
        return self.ask(operations.get_script(name))

    def run(self, request: JobRequest) -> Job:
        return self.ask(operations.run(with_bytes(request)))

    def submit(self, request: JobRequest) -> Job:
        return self.ask(operations.submit(with_bytes(request)))

    def get_job(self, job_id: str) -> Job:
        return self.ask(operations.get_job(job_id))

    def list_jobs(self, query: JobQuery) -> JobPage:
        return self.ask(operations.list_jobs(query))

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        return self.ask(operations.wait(job_id, timeout))

    def cancel(self, job_id: str) -> Job:
        return self.ask(operations.cancel(job_id))

    def rerun(self, job_id: str, newest: bool = False) -> Job:
        return self.ask(operations.rerun(job_id, newest))

    def list_refusals(self, limit: int = 50) -> list[Refusal]:
        return self.ask(operations.list_refusals(limit))

    def list_tokens(self) -> list[TokenInfo]:
        return self.ask(operations.list_tokens())

    def new_token(self, wanted: NewToken) -> MadeToken:
        return self.ask(operations.new_token(wanted))

    def revoke_token(self, name: str) -> None:
        self.ask(operations.revoke_token(name))

    def backup(self) -> Backup:
        return self.ask(operations.backup())


class AsyncCallingSession(AsyncSession):
    """The operations over `ask`, in their asyncio shape; `events` and `open_artifact` are the wire's own."""

    @abstractmethod
    async def ask(self, call: Call[T]) -> T:
        """Ask the node, and give its answer.

        Raises:
            ServiceError: the node refuses, or cannot be reached.
        """

    async def info(self, metrics: bool = False) -> NodeInfo:
        return await self.ask(operations.info(metrics))

    async def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        return await self.ask(operations.list_scripts(pattern))

    async def get_script(self, name: str) -> ScriptInfo:
        return await self.ask(operations.get_script(name))

    async def run(self, request: JobRequest) -> Job:
        return await self.ask(operations.run(with_bytes(request)))

    async def submit(self, request: JobRequest) -> Job:
        return await self.ask(operations.submit(with_bytes(request)))

    async def get_job(self, job_id: str) -> Job:
        return await self.ask(operations.get_job(job_id))

    async def list_jobs(self, query: JobQuery) -> JobPage:
        return await self.ask(operations.list_jobs(query))

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        return await self.ask(operations.wait(job_id, timeout))

    async def cancel(self, job_id: str) -> Job:
        return await self.ask(operations.cancel(job_id))

    async def rerun(self, job_id: str, newest: bool = False) -> Job:
        return await self.ask(operations.rerun(job_id, newest))

    async def list_refusals(self, limit: int = 50) -> list[Refusal]:
        return await self.ask(operations.list_refusals(limit))

    async def list_tokens(self) -> list[TokenInfo]:
        return await self.ask(operations.list_tokens())

    async def new_token(self, wanted: NewToken) -> MadeToken:
        return await self.ask(operations.new_token(wanted))

    async def revoke_token(self, name: str) -> None:
        await self.ask(operations.revoke_token(name))

    async def backup(self) -> Backup:
        return await self.ask(operations.backup())
