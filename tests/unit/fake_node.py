"""A node in memory behind the scheme `fake://`, for the tests of the client and of the command line.

Its scripts are a few lines each; what it answers has the shape of a real node's answers. `python -c LAUNCH`
runs the command line with it, in a process of its own.
"""

from __future__ import annotations

import fnmatch
import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from remoterun import errors
from remoterun.messages import (
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
    ProgressEvent,
    Refusal,
    ScriptInfo,
    StateEvent,
    TokenInfo,
    encode,
)
from remoterun.service import Artifact, Credential, Peer, Service, Session, Token
from remoterun.states import State
from remoterun.transport import ServerContext, ServerHalf, Target, Transport

LAUNCH = """\
import sys
import remoterun.transport
remoterun.transport._SHIPPED = {"fake": "tests.unit.fake_node"}
from remoterun.cli import main
sys.exit(main())
"""

TIME = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
TOKEN = "rr_good"
TRACEBACK = 'Traceback (most recent call last):\n  File "boom.py", line 2, in main\nValueError: no \x1b]0;way\x07'

SCRIPTS = {
    "hello": ScriptInfo(
        name="hello",
        kind="function",
        version="a" * 64,
        description="Greet",
        doc="Greet someone.\n\nTwice if asked.",
        parameters={
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Whom"},
                "times": {"type": "integer", "default": 1},
                "tone": {"enum": ["warm", "cold"], "default": "warm"},
            },
            "required": ["name"],
        },
    ),
    **{
        name: ScriptInfo(name=name, kind="function", version="b" * 64, parameters={"type": "object", "properties": {}})
        for name in ("boom", "silent", "chatty", "steps", "params")
    },
    **{
        name: ScriptInfo(name=name, kind="plain", version="c" * 64)
        for name in (
            "echo",
            "exit",
            "killed",
            "late",
            "bytes",
            "hostile",
            "reports/daily",
            "lost",
            "waits",
            "stubborn",
            "flood",
            "breaks",
            "leaves",
        )
    },
}


class Live(NamedTuple):
    """A job under way: its value, its log, and the end that a cancel brings."""

    job: Job
    request: JobRequest
    log: list[Event]
    cancelled: threading.Event


class FakeNode:
    """All jobs of a process; every session sees the same."""

    def __init__(self) -> None:
        self.jobs: dict[str, Live] = {}
        self.requests: list[JobRequest] = []

    def start(self, request: JobRequest) -> Job:
        self.requests.append(request)
        script = SCRIPTS.get(request.script)
        if script is None:
            raise errors.NotFound(f"there is no script {request.script}")
        if script.name == "hello" and "name" not in (request.params or {}):
            raise errors.Invalid(
                "bad parameters: name: Field required; times: Input should be a valid integer",
                fields=[FieldError("name", "Field required"), FieldError("times", "Input should be a valid integer")],
            )
        if request.key == "full":
            raise errors.Busy("the queue is full", retry_after=2.0)
        job = Job(
            id=f"job-{len(self.jobs) + 1}",
            script=script.name,
            version=script.version,
            state=State.RUNNING,
            attempt=1,
            params_json=Raw(encode(request.params or {})) if script.kind == "function" else UNSET,
            args=(request.args or ()) if script.kind == "plain" else UNSET,
            created=TIME,
            started=TIME,
            principal="tester",
            transport="fake",
            node="fake",
            key=request.key,
        )
        live = Live(job, request, [], threading.Event())
        self.jobs[job.id] = live
        return job

    def find(self, job_id: str) -> Live:
        if job_id not in self.jobs:
            raise errors.NotFound(f"there is no job {job_id}")
        return self.jobs[job_id]

    def finish(self, job_id: str) -> Job:
        for _ in self.events(job_id):
            pass
        return self.jobs[job_id].job

    def events(self, job_id: str) -> Iterator[Event]:
        live = self.find(job_id)
        if live.job.has_ended:
            yield from live.log
            return
        shown = len(live.log)
        yield from live.log
        makes = itertools.chain(_BEHAVIOURS[live.job.script](live), (_end(live),))
        for make in itertools.islice(makes, shown, None):
            event = make(job=job_id, n=len(live.log) + 1, time=TIME)
            live.log.append(event)
            if isinstance(event, StateEvent):
                self._ended(live)
            yield event

    def _ended(self, live: Live) -> None:
        output = sum(len(event.raw()) for event in live.log if isinstance(event, OutputEvent))
        ended = msgspec.structs.replace(live.job, ended=TIME, output=OutputInfo(output), **_outcome(live))
        self.jobs[live.job.id] = live._replace(job=ended)


Make = Callable[..., Event]


def _out(data: bytes, stream: Any = "stdout") -> Make:
    return lambda **common: OutputEvent(stream=stream, data=data.decode(), **common)


def _raw(data: bytes) -> Make:
    return lambda **common: OutputEvent(stream="stdout", data_base64=data, **common)


def _progress(done: float) -> Make:
    return lambda **common: ProgressEvent(done=done, total=4, message="reading\x1b[2J", **common)


def _end(live: Live) -> Make:
    state = _outcome(live)["state"]
    return lambda **common: StateEvent(state=state, attempt=1, final=True, **common)


def _until_cancelled(live: Live) -> Iterator[Make]:
    yield _out(b"started\n")
    live.cancelled.wait()
    yield _out(b"stopped\n", "stderr")


def _breaking(live: Live) -> Iterator[Make]:
    yield _out(b"started\n")
    raise errors.Unavailable("the connection was lost")


def _stubborn(live: Live) -> Iterator[Make]:
    yield _out(b"started\n")
    live.cancelled.wait()
    threading.Event().wait()


_BEHAVIOURS: dict[str, Callable[[Live], Any]] = {
    **dict.fromkeys(SCRIPTS, lambda live: ()),
    "chatty": lambda live: (_out(b"no newline"), _out(b"warned\n", "stderr")),
    "steps": lambda live: (_progress(1), _out(b"half\n"), _progress(3)),
    "echo": lambda live: (
        _out((live.request.stdin_bytes() or b"") + " ".join(live.request.args or ()).encode()),
        _out(b"to stderr\n", "stderr"),
    ),
    "bytes": lambda live: (_raw(b"\xff\x00\xfe"),),
    "hostile": lambda live: (_out(b"\x1b]0;title\x07\x1b[31mred\x1b[0m \x1b[2J\xe2\x80\xaeevil\x1b["), _out(b"5n\n")),
    "waits": _until_cancelled,
    "stubborn": _stubborn,
    "flood": lambda live: itertools.repeat(_out(b"x" * 65536), 1000),
    "breaks": _breaking,
    "reports/daily": lambda live: (_out("done é\n".encode()),),
}


def _outcome(live: Live) -> dict[str, Any]:
    if live.cancelled.is_set():
        return {"state": State.CANCELLED, "exit_code": -15}
    params = live.request.params or {}
    match live.job.script:
        case "hello":
            return {"state": State.SUCCEEDED, "result_json": Raw(encode({"hello": params["name"]})), "exit_code": 0}
        case "params":
            return {"state": State.SUCCEEDED, "result_json": Raw(encode(params)), "exit_code": 0}
        case "chatty" | "steps":
            return {"state": State.SUCCEEDED, "result_json": Raw(b"[1,2]"), "exit_code": 0}
        case "boom":
            error = JobError(type="ValueError", message="no way", traceback=TRACEBACK)
            return {"state": State.FAILED, "error": error, "exit_code": 1}
        case "exit":
            return {"state": State.FAILED, "exit_code": int((live.request.args or ("0",))[0])}
        case "leaves":
            return {"state": State.FAILED, "exit_code": 4, "error": JobError(type="SystemExit", message="exit code 4")}
        case "killed":
            return {"state": State.FAILED, "exit_code": -9}
        case "late":
            error = JobError(type="timeout", message="it ran longer than 1s")
            return {"state": State.TIMED_OUT, "error": error, "exit_code": -15}
        case "lost":
            return {"state": State.LOST}
        case _:
            artifacts = (ArtifactInfo(name="plots/a.png", size=3, media_type="image/png"),)
            return {"state": State.SUCCEEDED, "exit_code": 0, "artifacts": artifacts}


NODE = FakeNode()


class FakeSession(Session):
    """The operations on `NODE`."""

    @property
    def principal(self) -> str:
        return "tester"

    def info(self, metrics: bool = False) -> NodeInfo:
        load = Load(queued=1, running=2, workers=4, queue=10)
        addresses = {"fake": ("fake://here",)}
        return NodeInfo(node="fake", version="0", python="3", started=TIME, transports=addresses, scripts=len(SCRIPTS),
                        load=load, enforced={"memory": "cgroup v2"})  # fmt: skip

    def list_scripts(self, pattern: str = "*") -> list[ScriptInfo]:
        return [SCRIPTS[name] for name in sorted(SCRIPTS) if fnmatch.fnmatchcase(name, pattern)]

    def get_script(self, name: str) -> ScriptInfo:
        if name not in SCRIPTS:
            raise errors.NotFound(f"there is no script {name}")
        return SCRIPTS[name]

    def run(self, request: JobRequest) -> Job:
        return NODE.finish(NODE.start(request).id)

    def submit(self, request: JobRequest) -> Job:
        return NODE.start(request)

    def get_job(self, job_id: str) -> Job:
        return NODE.find(job_id).job

    def list_jobs(self, query: JobQuery) -> JobPage:
        jobs = [live.job for live in reversed(NODE.jobs.values())]
        jobs = [job for job in jobs if query.script in (None, job.script) and query.state in (None, job.state)]
        start = next((at + 1 for at, job in enumerate(jobs) if job.id == query.before), 0)
        page = jobs[start : start + min(query.limit, 2)]
        return JobPage(jobs=tuple(page), next=page[-1].id if start + len(page) < len(jobs) else None)

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        return NODE.find(job_id).job if timeout == 0 else NODE.finish(job_id)

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        return (event for event in NODE.events(job_id) if event.n > after)

    def cancel(self, job_id: str) -> Job:
        NODE.find(job_id).cancelled.set()
        return NODE.finish(job_id)

    def rerun(self, job_id: str, newest: bool = False) -> Job:
        return msgspec.structs.replace(NODE.start(NODE.find(job_id).request), rerun_of=job_id)

    def open_artifact(self, job_id: str, name: str) -> Artifact:
        for info in NODE.find(job_id).job.artifacts:
            if info.name == name:
                return Artifact(info, iter([b"p", b"ng"]))
        raise errors.NotFound(f"job {job_id} has no artifact {name}")

    def list_refusals(self, limit: int = 50) -> list[Refusal]:
        return []

    def list_tokens(self) -> list[TokenInfo]:
        return [TokenInfo(name="ada", scopes=("admin",), created=TIME)]

    def new_token(self, wanted: NewToken) -> MadeToken:
        return MadeToken(wanted.name, "rr_made")

    def revoke_token(self, name: str) -> None:
        if name != "ada":
            raise errors.NotFound(f"there is no token named {name}")

    def backup(self) -> Backup:
        return Backup(name="1", path="/backups/1", taken=TIME, bytes=2048, files=3)


class FakeService(Service):
    """A door that knows one token, and the owner of this process."""

    closed = 0

    def authenticate(self, credential: Credential) -> Session:
        if isinstance(credential, Peer) or credential == Token(TOKEN):
            return FakeSession()
        raise errors.Unauthenticated("the token is unknown, expired or revoked")

    def close(self) -> None:
        FakeService.closed += 1


class FakeTransport(Transport):
    """`fake://here`; `fake://down` does not answer."""

    name = "fake"
    schemes = ("fake",)
    settings = msgspec.defstruct("FakeSettings", [])

    def server(self, context: ServerContext, settings: Any) -> ServerHalf:
        raise NotImplementedError

    def connect(self, target: Target) -> Service:
        if target.url.endswith(("down", "remoterun.sock")):
            raise errors.Unavailable(f"nothing answers at {target.url}")
        return FakeService()


transport = FakeTransport()
