"""A small service in memory with the meaning of the real one, for the tests of the HTTP transport."""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec

from remoterun.errors import Busy, Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from remoterun.messages import (
    NULL,
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
    Progress,
    ProgressEvent,
    Refusal,
    Sample,
    ScriptInfo,
    StateEvent,
    TokenInfo,
    encode,
    now,
    stdin_fields,
)
from remoterun.service import AsyncArtifact, AsyncService, AsyncSession, Credential, Origin, Token
from remoterun.states import FINAL, State
from remoterun.transport import ServerContext
from remoterun_http import HttpSettings
from remoterun_http.server import HttpServer

TOKEN = "rr_right"
READER = "rr_reader"  # may read its own, and run nothing
RUNNER = "rr_runner"  # may run, and read nothing
VERSION = hashlib.sha256(b"").hexdigest()
PICTURE = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100_000
HOSTILE = "<script>alert(1)</script>"


def _function(name: str, properties: dict[str, Any], **more: Any) -> ScriptInfo:
    schema = {"type": "object", "properties": properties, "additionalProperties": False} | more.pop("schema", {})
    return ScriptInfo(name=name, kind="function", version=VERSION, parameters=schema, isolation="warm", **more)


_POINT = {
    "type": "object",
    "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
    "required": ["x", "y"],
    "additionalProperties": False,
}

SCRIPTS = {
    script.name: script
    for script in (
        _function("hello", {"name": {"type": "string"}, "times": {"type": ["integer", "string"]}}, description=HOSTILE),
        _function(
            "reports/move", {"to": {"$ref": "#/$defs/Point"}}, schema={"$defs": {"Point": _POINT}, "required": ["to"]}
        ),
        _function("args", {"args": {"type": "array", "items": {"type": "string"}}, "stdin": {"type": "string"}}),
        _function("fail", {}),
        _function("late", {}),
        _function("picky", {}),
        _function("slow", {}),
        _function("busy", {}),
        _function("draw", {}),
        ScriptInfo(name="echo", kind="plain", version=VERSION, description="Print argv and stdin"),
        ScriptInfo(name="bad", kind="plain", version=VERSION, broken="line 1 is no Python"),
    )
}

_VALIDATORS = {name: jsonschema_rs.validator_for(dict(s.parameters)) for name, s in SCRIPTS.items() if s.parameters}


@dataclass
class FakeJob:
    """A job, its events, and who waits for more of them."""

    job: Job
    request: JobRequest
    events: list[Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, kind: Callable[..., Event], **fields: Any) -> None:
        """Append an event and wake whoever follows."""
        self.events.append(kind(job=self.job.id, n=len(self.events) + 1, time=now(), **fields))
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def move(self, state: State, **fields: Any) -> None:
        """Change the job's state."""
        ended = now() if state in FINAL else None
        self.job = msgspec.structs.replace(self.job, state=state, attempt=1, started=now(), ended=ended, **fields)
        self.add(StateEvent, state=state, attempt=1, final=state in FINAL)


class FakeService(AsyncService):
    """The door, and all state behind it."""

    def __init__(self) -> None:
        self.tokens = {TOKEN: "ada", READER: "reader", RUNNER: "runner"}
        self.jobs: dict[str, FakeJob] = {}
        self.keys: dict[tuple[str, str], FakeJob] = {}
        self.authentications: list[tuple[Credential, Origin]] = []
        self.release = asyncio.Event()  # lets `slow` end
        self.started = asyncio.Event()  # a job began

    async def authenticate(self, credential: Credential, origin: Origin) -> AsyncSession:
        self.authentications.append((credential, origin))
        if not isinstance(credential, Token) or credential.value not in self.tokens:
            raise Unauthenticated("the token is wrong, expired or revoked")
        return FakeSession(self, credential.value)


class FakeSession(AsyncSession):
    """The operations of one principal."""

    def __init__(self, service: FakeService, token: str) -> None:
        self._service = service
        self._token = token
        self._name = service.tokens[token]

    @property
    def principal(self) -> str:
        return self._name

    def _check(self, scope: str) -> None:
        if self._token not in self._service.tokens:
            raise Unauthenticated("the token was revoked")
        if (self._token, scope) in {(READER, "run"), (RUNNER, "read"), (READER, "all"), (RUNNER, "all")}:
            raise Forbidden(f"{self._name} lacks the scope {scope}")

    async def info(self, metrics: bool = False) -> NodeInfo:
        self._check("info")
        return NodeInfo(
            node="fake",
            version="0",
            python="3",
            started=now(),
            transports={},
            scripts=len(SCRIPTS),
            load=Load(queued=0, running=0, workers=1, queue=1),
            enforced={},
            counters={"succeeded": len(self._service.jobs), 'odd"\n': 1},
            metrics=(Sample("remoterun_build_info", ("fake", "0", "3"), 1),) if metrics else msgspec.UNSET,
        )

    async def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        self._check("read")
        return [script for name, script in sorted(SCRIPTS.items()) if fnmatch.fnmatchcase(name, pattern)]

    async def get_script(self, name: str) -> ScriptInfo:
        self._check("read")
        return _script(name)

    async def run(self, request: JobRequest) -> Job:
        job = await self.submit(request)
        fake = self._service.jobs[job.id]
        while not fake.job.has_ended:
            await fake.changed.wait()
        return fake.job

    async def submit(self, request: JobRequest) -> Job:
        self._check("run")
        script = _script(request.script)
        if request.script == "busy":
            raise Busy("the queue is full", retry_after=1.5)
        if script.broken:
            raise Invalid(f"{script.name} is broken: {script.broken}")
        _validate(script, request)
        known = self._service.keys.get((self._name, request.key or ""))
        if known is not None:
            if known.request != request:
                raise Conflict("the key was used with another request")
            return known.job
        fake = self._new(script, request)
        if request.key:
            self._service.keys[self._name, request.key] = fake
        _begin(fake, self._service)
        return fake.job

    def _new(self, script: ScriptInfo, request: JobRequest) -> FakeJob:
        inputs: dict[str, Any] = {"args": request.args or ()}
        if script.kind == "function":
            inputs = {"params_json": msgspec.Raw(encode(request.params or {}))}
        job = Job(
            id=f"job-{len(self._service.jobs):04}",
            script=script.name,
            version=VERSION,
            state=State.QUEUED,
            attempt=0,
            created=now(),
            principal=self._name,
            transport="http",
            node="fake",
            key=request.key,
            **inputs,
        )
        fake = self._service.jobs[job.id] = FakeJob(job, request)
        fake.add(StateEvent, state=State.QUEUED, attempt=0)
        return fake

    def _find(self, job_id: str) -> FakeJob:
        self._check("read")
        fake = self._service.jobs.get(job_id)
        if fake is None or fake.job.principal != self._name:
            raise NotFound("there is no such job")
        return fake

    async def get_job(self, job_id: str) -> Job:
        return self._find(job_id).job

    async def list_jobs(self, query: JobQuery) -> JobPage:
        self._check("read")
        jobs = [
            fake.job
            for fake in reversed(self._service.jobs.values())
            if fake.job.principal == self._name
            and query.script in (None, fake.job.script)
            and query.state in (None, fake.job.state)
            and (query.before is None or fake.job.id < query.before)
            and (query.since is None or fake.job.created >= query.since)
            and (query.until is None or fake.job.created < query.until)
        ]
        page = tuple(jobs[: query.limit])
        return JobPage(jobs=page, next=page[-1].id if len(jobs) > query.limit else None)

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        fake = self._find(job_id)

        async def ended() -> None:
            while not fake.job.has_ended:
                await fake.changed.wait()

        with suppress(TimeoutError):
            await asyncio.wait_for(ended(), timeout)
        return self._service.jobs[job_id].job

    async def events(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        fake = self._find(job_id)
        while True:
            changed = fake.changed
            for event in fake.events[after:]:
                yield event
                after = event.n
            if fake.job.has_ended:
                return
            await changed.wait()
            self._check("read")

    async def cancel(self, job_id: str) -> Job:
        fake = self._find(job_id)
        self._check("run")
        if not fake.job.has_ended:
            fake.move(State.CANCELLED)
        return fake.job

    async def rerun(self, job_id: str, newest: bool = False) -> Job:
        fake = self._find(job_id)
        if not fake.job.has_ended:
            raise Conflict("the job has not ended")
        self._check("run")
        again = self._new(SCRIPTS[fake.job.script], fake.request)
        again.job = msgspec.structs.replace(again.job, rerun_of=job_id, key=None)
        _begin(again, self._service)
        return again.job

    async def open_artifact(self, job_id: str, name: str) -> AsyncArtifact:
        fake = self._find(job_id)
        for info in fake.job.artifacts:
            if info.name == name:
                return AsyncArtifact(info, _chunks(fake.files[name]))
        raise NotFound("the job left no such file")

    async def list_refusals(self, limit: int = 50) -> list[Refusal]:
        self._check("all")
        where: dict[str, Any] = {"principal": None, "transport": "http", "operation": "run", "script": "x"}
        return [Refusal(time=now(), code="busy", message="no", **where)]

    async def list_tokens(self) -> list[TokenInfo]:
        self._check("all")
        return [TokenInfo(name="ada", scopes=("admin",), created=now())]

    async def new_token(self, wanted: NewToken) -> MadeToken:
        self._check("all")
        return MadeToken(wanted.name, "rr_made")

    async def revoke_token(self, name: str) -> None:
        self._check("all")
        if name != "ada":
            raise NotFound(f"there is no token named {name}")

    async def backup(self) -> Backup:
        self._check("all")
        return Backup(name="1", path="/backups/1", taken=now(), bytes=1, files=1)


def _script(name: str) -> ScriptInfo:
    if name not in SCRIPTS:
        raise NotFound("there is no such script")
    return SCRIPTS[name]


def _validate(script: ScriptInfo, request: JobRequest) -> None:
    if script.kind == "plain":
        if request.params:
            raise Invalid("a plain script takes argv")
        return
    if request.args is not None:
        raise Invalid("a function script takes named parameters")
    errors = [
        FieldError(".".join(str(part) for part in error.instance_path) or "parameters", error.message)
        for error in _VALIDATORS[script.name].iter_errors(request.params or {})
    ]
    if errors:
        raise Invalid("; ".join(each.message for each in errors), fields=errors)


def _begin(fake: FakeJob, service: FakeService) -> None:
    fake.move(State.RUNNING)
    service.started.set()
    name = fake.job.script
    if name == "slow":
        task = asyncio.ensure_future(_slow(fake, service))
        task.add_done_callback(lambda done: done.exception())
    elif name == "fail":
        fake.add(OutputEvent, stream="stderr", data="about to fail\n")
        error = JobError(type="ValueError", message="no", traceback="Traceback …")
        fake.move(State.FAILED, error=error, exit_code=1)
    elif name == "late":
        fake.move(State.TIMED_OUT, error=JobError(type="Timeout", message="1 s"))
    elif name == "picky":
        error = JobError(type="Invalid", message="no", fields=(FieldError("name", "too short"),))
        fake.move(State.FAILED, error=error)
    else:
        _succeed(fake)


def _succeed(fake: FakeJob) -> None:
    name, request = fake.job.script, fake.request
    fields: dict[str, Any] = {"result_json": NULL}
    if name == "draw":
        fake.add(ProgressEvent, done=1, total=2, message="drawing")
        fake.files = {"plot.png": PICTURE, 'odd/é".svg': b"<svg onload='alert(1)'/>"}
        infos = (
            ArtifactInfo(name="plot.png", size=len(PICTURE), media_type="image/png"),
            ArtifactInfo(name='odd/é".svg', size=24, media_type="image/svg+xml"),
        )
        for info in infos:
            fake.add(ArtifactEvent, name=info.name, size=info.size, media_type=info.media_type)
        fields = {"artifacts": infos, "progress": Progress(1, 2, "drawing")}
    elif name == "echo":
        printed = "\n".join(request.args or ()).encode() + (request.stdin_bytes() or b"")
        fields = {"exit_code": 0, "output": OutputInfo(len(printed))}
        fake.add(OutputEvent, stream="stderr", data="noise\n")
        for piece in (printed[:5], printed[5:]):
            data = stdin_fields(piece)
            fake.add(OutputEvent, stream="stdout", data_base64=data["stdin_base64"]) if "stdin_base64" in data else (
                fake.add(OutputEvent, stream="stdout", data=data["stdin"])
            )
    elif name == "hello":
        fields = {"result_json": msgspec.Raw(encode({"hello": (request.params or {}).get("name")}))}
    else:
        stdin = request.stdin_bytes()
        seen = {"params": request.params, "stdin": stdin and stdin.decode(), "timeout": request.timeout}
        fields = {"result_json": msgspec.Raw(encode({**seen, "key": request.key, "trace": request.trace}))}
    fake.move(State.SUCCEEDED, **fields)


async def _slow(fake: FakeJob, service: FakeService) -> None:
    await service.release.wait()
    fake.add(OutputEvent, stream="stdout", data="released\n")
    fake.move(State.SUCCEEDED, result_json=msgspec.Raw(b'"done"'))


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


@dataclass
class Node:
    """A running server half before a fake service."""

    service: FakeService
    server: HttpServer
    url: str
    state: dict[str, bool]

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.partition("://")[2].rpartition(":")
        return host, int(port)


@asynccontextmanager
async def serving(
    tmp_path: Path, *, auth_timeout: float = 10.0, max_request: int = 2**20, **settings: Any
) -> AsyncIterator[Node]:
    """Serve a fake on a free port of loopback."""
    service = FakeService()
    state = {"ready": True}

    def addresses() -> Mapping[str, tuple[str, ...]]:
        return {}

    context = ServerContext(
        service=service,
        data=tmp_path,
        max_request=max_request,
        auth_timeout=auth_timeout,
        insecure_listen=False,
        is_ready=lambda: state["ready"],
        addresses=addresses,
    )
    server = HttpServer(context, HttpSettings(**{"listen": ("127.0.0.1:0",), **settings}))
    taken = await server.start()
    node = Node(service, server, taken["http"][0], state)
    try:
        yield node
    finally:
        service.release.set()
        await server.stop(1.0)
