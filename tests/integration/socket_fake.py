"""A service in memory, for the tests of the socket alone: a few scripts that are Python functions of a request."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET, Raw
from msgspec.structs import replace

from remoterun.errors import Busy, Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from remoterun.messages import (
    ArtifactEvent,
    ArtifactInfo,
    Backup,
    Event,
    FieldError,
    Job,
    JobError,
    JobPage,
    JobQuery,
    JobRequest,
    Load,
    MadeToken,
    NewToken,
    NodeInfo,
    OutputEvent,
    OutputInfo,
    Refusal,
    ScriptInfo,
    StateEvent,
    TokenInfo,
    encode,
    now,
)
from remoterun.service import AsyncArtifact, AsyncService, AsyncSession, Credential, Origin, Peer, Token
from remoterun.states import State

TOKEN = "rr_right"
OTHER = "rr_other"

SCRIPTS = {
    info.name: info
    for info in (
        ScriptInfo(name="hello", kind="function", version="1", description="Say hello"),
        ScriptInfo(name="nothing", kind="function", version="1", description="Return nothing"),
        ScriptInfo(name="echo", kind="plain", version="1", description="Write what it reads, and its argv"),
        ScriptInfo(name="fail", kind="function", version="1", description="Raise"),
        ScriptInfo(name="hold", kind="function", version="1", description="Run until it is released or cancelled"),
        ScriptInfo(name="flood", kind="plain", version="1", description="Write a lot"),
    )
}


@dataclass
class Entry:
    """A job and what happened to it."""

    job: Job
    request: JobRequest
    log: list[Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Future[Job] | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, kind: Callable[..., Event], **fields: Any) -> None:
        self.log.append(kind(job=self.job.id, n=len(self.log) + 1, time=now(), **fields))
        self.changed.set()
        self.changed = asyncio.Event()

    def end(self, state: State, **fields: Any) -> None:
        assert self.ended is not None
        self.job = replace(self.job, state=state, ended=now(), **fields)
        self.add(StateEvent, state=state, attempt=1, final=True)
        self.ended.set_result(self.job)


class FakeService(AsyncService):
    """What a node's dispatcher does, without processes, disk or scopes."""

    def __init__(self) -> None:
        self.tokens = {TOKEN: "ada", OTHER: "bob"}
        self.uids: set[int] = set()  # whose processes need no token
        self.entries: dict[str, Entry] = {}
        self.keys: dict[tuple[str, str], Entry] = {}
        self.sessions: list[tuple[str, Origin]] = []
        self.started: asyncio.Queue[str] = asyncio.Queue()  # ids of jobs, as they start
        self.flood = 1000  # pieces of output, 1 KiB each
        self.unfollowed = asyncio.Event()  # an iterator of events was let go of
        self.authenticating = asyncio.Event()
        self.authenticating.set()

    async def authenticate(self, credential: Credential, origin: Origin) -> AsyncSession:
        await self.authenticating.wait()
        name = None
        if isinstance(credential, Token):
            name = self.tokens.get(credential.value)
        elif isinstance(credential, Peer) and credential.uid in self.uids:
            name = f"uid:{credential.uid}"
        if name is None:
            raise Unauthenticated("the token is wrong, expired or revoked")
        self.sessions.append((name, origin))
        return FakeSession(self, credential, name)

    def start(self, principal: str, request: JobRequest) -> Entry:
        if request.script not in SCRIPTS:
            raise NotFound(f"there is no script {request.script}")
        if request.script == "hello" and "name" not in (request.params or {}):
            raise Invalid("bad parameters", fields=[FieldError("name", "missing")])
        if request.key is not None and (principal, request.key) in self.keys:
            entry = self.keys[principal, request.key]
            if entry.request != request:
                raise Conflict(f"the key {request.key} was used with another request")
            return entry
        plain = SCRIPTS[request.script].kind == "plain"
        job = Job(
            id=str(uuid.uuid4()),
            script=request.script,
            version="1",
            state=State.RUNNING,
            attempt=1,
            params_json=UNSET if plain else Raw(encode(request.params or {})),
            args=request.args or () if plain else UNSET,
            created=now(),
            principal=principal,
            transport="socket",
            node="fake",
            key=request.key,
        )
        entry = Entry(job, request, ended=asyncio.get_running_loop().create_future())
        self.entries[job.id] = entry
        if request.key is not None:
            self.keys[principal, request.key] = entry
        entry.add(StateEvent, state=State.RUNNING, attempt=1)
        self._go(entry)
        self.started.put_nowait(job.id)
        return entry

    def _go(self, entry: Entry) -> None:
        request = entry.request
        match request.script:
            case "hello":
                assert request.params is not None
                entry.end(State.SUCCEEDED, result_json=Raw(json.dumps({"hello": request.params["name"]}).encode()))
            case "nothing":
                entry.end(State.SUCCEEDED)
            case "echo":
                written = (request.stdin_bytes() or b"") + " ".join(request.args or ()).encode()
                entry.add(OutputEvent, stream="stdout", data_base64=written)
                entry.add(OutputEvent, stream="stderr", data="warned")
                info = ArtifactInfo(name="out/copy.bin", size=len(written), media_type="application/octet-stream")
                entry.files[info.name] = written
                entry.add(ArtifactEvent, name=info.name, size=info.size, media_type=info.media_type)
                entry.end(State.SUCCEEDED, output=OutputInfo(len(written) + 6), exit_code=0, artifacts=(info,))
            case "fail":
                error = JobError(type="ValueError", message="no\nluck", traceback="Traceback …")
                entry.end(State.FAILED, error=error, exit_code=1)
            case "flood":
                for _ in range(self.flood):
                    entry.add(OutputEvent, stream="stdout", data="x" * 1024)
                entry.end(State.SUCCEEDED, output=OutputInfo(self.flood * 1024), exit_code=0)


class FakeSession(AsyncSession):
    """The operations, on the jobs of one principal."""

    def __init__(self, service: FakeService, credential: Credential, name: str) -> None:
        self._service = service
        self._credential = credential
        self._name = name

    def _check(self) -> None:
        if isinstance(self._credential, Token) and self._credential.value not in self._service.tokens:
            raise Unauthenticated("the token was revoked")

    def _entry(self, job_id: str) -> Entry:
        self._check()
        entry = self._service.entries.get(job_id)
        if entry is None:
            raise NotFound(f"there is no job {job_id}")
        if entry.job.principal != self._name:
            raise Forbidden(f"job {job_id} is not yours")
        return entry

    @property
    def principal(self) -> str:
        return self._name

    async def info(self, metrics: bool = False) -> NodeInfo:
        self._check()
        return NodeInfo(
            node="fake",
            version="0",
            python="3",
            started=now(),
            transports={"socket": ("tcp://127.0.0.1:1",)},
            scripts=len(SCRIPTS),
            load=Load(queued=0, running=1, workers=2, queue=3),
            enforced={"memory": "rlimit"},
            counters={"succeeded": 4},
        )

    async def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        self._check()
        return [info for name, info in SCRIPTS.items() if pattern in ("*", name)]

    async def get_script(self, name: str) -> ScriptInfo:
        self._check()
        if name not in SCRIPTS:
            raise NotFound(f"there is no script {name}")
        return SCRIPTS[name]

    def run(self, request: JobRequest) -> asyncio.Future[Job]:
        self._check()
        ended = self._service.start(self._name, request).ended
        assert ended is not None
        return ended

    async def submit(self, request: JobRequest) -> Job:
        self._check()
        if request.trace == "busy":
            raise Busy("the queue is full", retry_after=1.5)
        return self._service.start(self._name, request).job

    async def get_job(self, job_id: str) -> Job:
        return self._entry(job_id).job

    async def list_jobs(self, query: JobQuery) -> JobPage:
        self._check()
        jobs = [entry.job for entry in self._service.entries.values() if entry.job.principal == self._name]
        chosen = [j for j in jobs if query.script in (None, j.script) and query.state in (None, j.state)]
        return JobPage(jobs=tuple(reversed(chosen))[: query.limit])

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        entry = self._entry(job_id)
        assert entry.ended is not None
        try:
            return await asyncio.wait_for(asyncio.shield(entry.ended), timeout)
        except TimeoutError:
            return entry.job

    async def events(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        entry = self._entry(job_id)
        try:
            while True:
                while after < len(entry.log):
                    after += 1
                    yield entry.log[after - 1]
                if entry.job.has_ended:
                    return
                await entry.changed.wait()
        finally:
            self._service.unfollowed.set()

    async def cancel(self, job_id: str) -> Job:
        entry = self._entry(job_id)
        if not entry.job.has_ended:
            entry.end(State.CANCELLED)
        return entry.job

    async def rerun(self, job_id: str, newest: bool = False) -> Job:
        entry = self._entry(job_id)
        again = self._service.start(self._name, replace(entry.request, key=None))
        again.job = replace(again.job, rerun_of=job_id, version="2" if newest else "1")
        return again.job

    async def open_artifact(self, job_id: str, name: str) -> AsyncArtifact:
        entry = self._entry(job_id)
        for info in entry.job.artifacts:
            if info.name == name:
                return AsyncArtifact(info, _chunks(entry.files[name]))
        raise NotFound(f"job {job_id} left no {name}")

    async def list_refusals(self, limit: int = 50) -> list[Refusal]:
        self._check()
        refusal = Refusal(
            time=now(),
            principal=None,
            transport="socket",
            operation="run",
            script="x",
            code="forbidden",
            message="no",
        )
        return [refusal] * min(limit, 2)

    async def list_tokens(self) -> list[TokenInfo]:
        self._check()
        return [TokenInfo(name="ada", scopes=("admin",), created=now())]

    async def new_token(self, wanted: NewToken) -> MadeToken:
        self._check()
        return MadeToken(wanted.name, "rr_made")

    async def revoke_token(self, name: str) -> None:
        self._check()
        if name != "ada":
            raise NotFound(f"there is no token named {name}")

    async def backup(self) -> Backup:
        self._check()
        return Backup(name="1", path="/backups/1", taken=now(), bytes=1, files=1)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]
