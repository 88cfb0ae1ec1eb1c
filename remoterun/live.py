"""A job that is waiting or running, as the dispatcher holds it."""

from __future__ import annotations

import asyncio
import codecs
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import UNSET, Raw, UnsetType

from remoterun.joblog import JobLog
from remoterun.messages import (
    NULL,
    ArtifactEvent,
    ArtifactInfo,
    Job,
    JobError,
    OutputEvent,
    OutputInfo,
    Progress,
    ProgressEvent,
    StateEvent,
    now,
)
from remoterun.states import FINAL, State, check_move
from remoterun.store.interface import Extra
from remoterun.workers.interface import Assignment, Attempt, Handed, Outcome, Sink
from remoterun.workers.run import Stream

if TYPE_CHECKING:
    from remoterun.catalog import Script
    from remoterun.dispatcher import Dispatcher
    from remoterun.tracing import JobTrace


class LiveJob(Sink):
    """A job's present state, its log, who waits for it; it hears what its attempt does.

    Parameters:
        params: JSON text for the worker; `masked`, the same for records.
        fingerprint: of the request, where it has a key.
    """

    __slots__ = (
        "_held",
        "args",
        "artifacts",
        "attempt",
        "cancel_requested",
        "created",
        "deadline",
        "dispatcher",
        "ended_at",
        "error",
        "exit_code",
        "extra",
        "flushing",
        "id",
        "is_held",
        "is_stored",
        "is_void",
        "is_waiting",
        "key",
        "log",
        "masked",
        "node",
        "output_info",
        "params",
        "peer",
        "principal",
        "progress_info",
        "rerun_of",
        "result",
        "run",
        "script",
        "size",
        "span",
        "started",
        "state",
        "stdin",
        "timeout",
        "trace",
        "transport",
        "unflushed",
        "version",
        "waiters",
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        script: Script,
        *,
        id: str,
        params: bytes | None,
        masked: bytes | None,
        args: tuple[str, ...],
        stdin: bytes | None,
        timeout: float,
        principal: str,
        transport: str,
        peer: str,
        node: str,
        created: datetime,
        extra: Extra | None,
        trace: str | None = None,
        key: str | None = None,
        rerun_of: str | None = None,
        last_event: int = 0,
        attempt: int = 0,
        size: int = 0,
    ) -> None:
        self.dispatcher = dispatcher
        self._held: dict[Stream, bytes] | None = None  # bytes of a character that the next piece completes
        self.script = script
        self.version = script.info.version
        self.id = id
        self.params = params
        self.masked = masked
        self.args = args
        self.stdin = stdin
        self.timeout = timeout
        self.trace = trace
        self.span: JobTrace | None = None  # where jobs are traced
        self.key = key
        self.rerun_of = rerun_of
        self.principal = principal
        self.transport = transport
        self.peer = peer
        self.node = node
        self.created = created
        self.extra = extra
        self.attempt = attempt
        self.state = State.QUEUED
        self.started: datetime | None = None
        self.ended_at: datetime | None = None
        self.result: bytes | None = None
        self.error: JobError | None = None
        self.exit_code: int | None = None
        self.progress_info: Progress | None = None
        self.artifacts: tuple[ArtifactInfo, ...] = ()
        self.output_info = OutputInfo()
        self.log = JobLog(last_event)
        self.waiters: list[asyncio.Future[Job]] = []
        self.run: Attempt | None = None
        self.deadline = 0.0  # loop time; 0: none
        self.size = size  # bytes that it holds while it waits
        self.is_waiting = False  # in the queue, or held
        self.is_held = False  # until its script's environment is ready
        self.is_stored = False  # the store may hold it as queued: `running` must be on disk before it starts
        self.is_void = False  # its admission could not be recorded: it never was
        self.cancel_requested = False
        self.unflushed = 0  # bytes of output that the store was not given
        self.flushing = False  # output waits for the disk

    @property
    def group(self) -> str:
        """The script's name, for the queue."""
        return self.script.name

    def snapshot(self) -> Job:
        """Give the job as it stands."""
        return Job(
            id=self.id,
            script=self.script.name,
            version=self.version,
            state=self.state,
            attempt=self.attempt,
            params_json=UNSET if self.masked is None else Raw(self.masked),
            args=UNSET if self.masked is not None else self.args,
            result_json=NULL if self.result is None else Raw(self.result),
            error=self.error,
            exit_code=self.exit_code,
            created=self.created,
            started=self.started,
            ended=self.ended_at,
            principal=self.principal,
            transport=self.transport,
            node=self.node,
            progress=self.progress_info,
            artifacts=self.artifacts,
            output=self.output_info,
            key=self.key,
            rerun_of=self.rerun_of,
            peer=self.peer,
        )

    def move(self, state: State) -> StateEvent:
        """Move to a state and give the event of it, which is not in the log yet."""
        check_move(self.state, state)
        self.state = state
        return self._state_event()

    def _state_event(self) -> StateEvent:
        return StateEvent(
            job=self.id,
            n=self.log.last + 1,
            time=now(),
            state=self.state,
            attempt=self.attempt,
            final=self.state in FINAL,
        )

    def admit(self) -> None:
        """Log that the job is queued."""
        self.log.append(self._state_event())

    def assignment(self) -> Assignment:
        """Give what a worker needs for the present attempt."""
        program = self.script.program
        assert program is not None
        files: tuple[Handed, ...] = ()
        if self.extra is not None and self.extra.files:
            path = self.dispatcher.uploads.path
            files = tuple(Handed(file.place, str(path(self.id, file)), file.name) for file in self.extra.files)
        trace = self.trace if self.span is None else self.span.traceparent()
        return Assignment(self.id, self.attempt, program, self.params, self.args, self.stdin, trace, files)

    def output(self, stream: Stream, data: bytes) -> bool:
        self._log_output(stream, data)
        return self.dispatcher.output_came(self, len(data))

    def _log_output(self, stream: Stream, data: bytes) -> None:
        """Log a piece of output as text where it is UTF-8; a character cut in two waits for its rest."""
        if self._held is not None:
            data = self._held.pop(stream, b"") + data
        text, used = _decode(data)
        if text is None:
            self._append_output(stream, UNSET, data)
            return
        if used < len(data):
            self._held = self._held or {}
            self._held[stream] = data[used:]
        if text:
            self._append_output(stream, text, UNSET)

    def _append_output(self, stream: Stream, text: str | UnsetType, data: bytes | UnsetType) -> None:
        event = OutputEvent(
            job=self.id,
            n=self.log.last + 1,
            time=now(),
            stream=stream,
            data=text,
            data_base64=data,
        )
        self.log.append(event)

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        self.progress_info = Progress(done, total, message)
        self.log.append(
            ProgressEvent(job=self.id, n=self.log.last + 1, time=now(), done=done, total=total, message=message)
        )
        self.dispatcher.output_came(self, 0)

    def began(self) -> None:
        self.dispatcher.attempt_began(self)

    def returned(self) -> None:
        self.dispatcher.attempt_returned(self)

    def ended(self, outcome: Outcome) -> None:
        self._log_rest()
        self.output_info = OutputInfo(outcome.output_bytes, outcome.output_cut)
        self.artifacts = outcome.artifacts
        for artifact in outcome.artifacts:
            self.log.append(
                ArtifactEvent(
                    job=self.id,
                    n=self.log.last + 1,
                    time=now(),
                    name=artifact.name,
                    size=artifact.size,
                    media_type=artifact.media_type,
                )
            )
        self.dispatcher.attempt_ended(self, outcome)

    def _log_rest(self) -> None:
        held, self._held = self._held, None
        for stream, data in (held or {}).items():
            self._append_output(stream, UNSET, data)


def _decode(data: bytes) -> tuple[str | None, int]:
    """Decode UTF-8 up to a character that is cut off at the end; None where the bytes are something else."""
    try:
        return codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return None, 0
