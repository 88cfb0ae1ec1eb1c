"""Traces of jobs as W3C and OpenTelemetry know them: a span for each job, and below it what it waited and ran.

The ids of spans are ours, so that a script's own spans can be children of the attempt that it is: its TRACEPARENT
names the span "running". A span is handed on once it has ended; `remoterun.otel` has what exports them.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from remoterun.errors import ServiceError
from remoterun.messages import JobError, now
from remoterun.service import Origin
from remoterun.states import State

if TYPE_CHECKING:
    from remoterun.live import LiveJob

Kind = Literal["server", "consumer", "internal"]
Attributes = Mapping[str, str | int | bool]

_LOW: Final = 2**64  # a trace is sampled by the lower half of its id, as OpenTelemetry's TraceIdRatioBased does


class Span(Struct, frozen=True, gc=False):
    """A span that has ended. `error` is the type of what went wrong, never its text: that quotes parameters."""

    name: str
    kind: Kind
    trace_id: int
    span_id: int
    parent_id: int | None
    start: datetime
    end: datetime
    attributes: Attributes
    error: str | None = None


class SpanSink(ABC):
    """Where spans go."""

    @property
    @abstractmethod
    def exported(self) -> int:
        """How many have arrived."""

    @property
    @abstractmethod
    def dropped(self) -> int:
        """How many went nowhere."""

    @abstractmethod
    def take(self, span: Span) -> None:
        """Take a span; at once, whatever becomes of it."""

    @abstractmethod
    def close(self, patience: float) -> None:
        """Export what is left for at most `patience` seconds; blocking."""


class Parent(Struct, frozen=True):
    """The caller's span."""

    trace_id: int
    span_id: int
    is_sampled: bool


def parse(traceparent: str | None) -> Parent | None:
    """Read a well-formed traceparent; one whose ids are zero, or whose version is none, says nothing (W3C, 3.2.2)."""
    if traceparent is None:
        return None
    version, trace, span, flags = traceparent.split("-")
    if version == "ff" or not int(trace, 16) or not int(span, 16):
        return None
    return Parent(int(trace, 16), int(span, 16), bool(int(flags, 16) & 1))


class Tracer:
    """Begins the traces of jobs.

    Parameters:
        sink: where spans go.
        ratio: the share of traces to export, of those that begin here; a caller's own flag decides for its.
        queues: gives the transports that consume from a broker.
    """

    def __init__(self, sink: SpanSink, ratio: float, queues: Callable[[], Container[str]]) -> None:
        self._sink = sink
        self._bound = round(ratio * _LOW)
        self._queues = queues

    @property
    def exported(self) -> int:
        """How many spans have arrived."""
        return self._sink.exported

    @property
    def dropped(self) -> int:
        """How many spans went nowhere."""
        return self._sink.dropped

    def begin(self, job: LiveJob, *, is_recovered: bool = False) -> JobTrace:
        """Begin the trace of a job, or go on with its caller's."""
        trace_id, parent_id, is_sampled = self._context(job.trace)
        kind: Kind = "consumer" if job.transport in self._queues() else "server"
        sink = self._sink if is_sampled else None
        start = now() if is_recovered else job.created
        trace = JobTrace(sink, kind, trace_id, parent_id, start, is_recovered)
        if job.state is State.QUEUED:
            trace.waits(start)
        return trace

    def refused(
        self, error: ServiceError, principal: str | None, origin: Origin, script: str | None, trace: str | None
    ) -> None:
        """Have a span for a call that was refused, whose job there is none of."""
        trace_id, parent_id, is_sampled = self._context(trace)
        if not is_sampled:
            return
        kind: Kind = "consumer" if origin.transport in self._queues() else "server"
        attributes = {"remoterun.transport": origin.transport, "remoterun.code": error.code, "error.type": error.code}
        if principal is not None:
            attributes["remoterun.principal"] = principal
        if script is not None:  # not in the span's name: callers may ask for any
            attributes["remoterun.script"] = script[:200]
        moment = now()
        self._sink.take(
            Span("run", kind, trace_id, _new_id(64), parent_id, moment, moment, attributes, error=error.code)
        )

    def close(self, patience: float) -> None:
        """Export what is left for at most `patience` seconds; blocking."""
        self._sink.close(patience)

    def _context(self, traceparent: str | None) -> tuple[int, int | None, bool]:
        parent = parse(traceparent)
        if parent is not None:
            return parent.trace_id, parent.span_id, parent.is_sampled
        trace_id = _new_id(128)
        return trace_id, None, trace_id % _LOW < self._bound


class JobTrace:
    """The spans of one job.

    Parameters:
        sink: where they go, or None where this trace is not sampled.
        start: of the job's span.
    """

    __slots__ = ("_attempt_id", "_kind", "_parent_id", "_queued", "_recovered", "_running", "_sink", "_span_id",
                 "_start", "trace_id")  # fmt: skip

    def __init__(
        self, sink: SpanSink | None, kind: Kind, trace_id: int, parent_id: int | None, start: datetime, recovered: bool
    ) -> None:
        self.trace_id = trace_id
        self._sink = sink
        self._kind = kind
        self._parent_id = parent_id
        self._span_id = _new_id(64)
        self._start = start
        self._recovered = recovered
        self._queued: datetime | None = None  # since then it waits
        self._running: datetime | None = None  # since then an attempt runs
        self._attempt_id = 0  # of the span of the attempt that runs or was handed to a worker; 0: of none

    def traceparent(self) -> str:
        """Give the traceparent for the script: that of the attempt about to run."""
        self._attempt_id = self._attempt_id or _new_id(64)
        return f"00-{self.trace_id:032x}-{self._attempt_id:016x}-{'00' if self._sink is None else '01'}"

    def started(self, job: LiveJob, moment: datetime) -> None:
        """Note that an attempt runs."""
        self._waited(job, moment)
        self._running = moment

    def returned(self) -> None:
        """Note that an attempt which a worker was handed was not begun."""
        self._attempt_id = 0

    def attempt_ended(self, job: LiveJob, state: State, error: JobError | None) -> None:
        """Note that an attempt ended."""
        moment = now()
        if self._running is not None and self._sink is not None:
            attributes: dict[str, str | int | bool] = {
                "remoterun.job": job.id,
                "remoterun.attempt": job.attempt,
                "remoterun.state": state.value,
            }
            if job.exit_code is not None:
                attributes["process.exit.code"] = job.exit_code
            span_id = self._attempt_id or _new_id(64)
            self._child("running", span_id, self._running, moment, attributes, _problem(state, error))
        self._attempt_id = 0
        self._running = None

    def waits(self, since: datetime) -> None:
        """Note that the job waits for a worker."""
        self._queued = since

    def ended(self, job: LiveJob) -> None:
        """Note that the job ended; nothing comes after it."""
        assert job.ended_at is not None
        self._waited(job, job.ended_at)  # where it was waiting
        if self._sink is None:
            return
        attributes: dict[str, str | int | bool] = {
            "remoterun.job": job.id,
            "remoterun.script": job.script.name,
            "remoterun.principal": job.principal,
            "remoterun.transport": job.transport,
            "remoterun.node": job.node,
            "remoterun.state": job.state.value,
            "remoterun.attempt": job.attempt,
            "remoterun.recovered": self._recovered,
        }
        if job.exit_code is not None:
            attributes["process.exit.code"] = job.exit_code
        problem = _problem(job.state, job.error)
        if problem is not None:
            attributes["error.type"] = problem
        self._sink.take(
            Span(
                f"run {job.script.name}",
                self._kind,
                self.trace_id,
                self._span_id,
                self._parent_id,
                self._start,
                job.ended_at,
                attributes,
                problem,
            )
        )

    def _waited(self, job: LiveJob, until: datetime) -> None:
        if self._queued is not None and self._sink is not None:
            attributes: Attributes = {"remoterun.job": job.id, "remoterun.attempt": job.attempt}
            self._child("queued", _new_id(64), self._queued, until, attributes, None)
        self._queued = None

    def _child(
        self, name: str, span_id: int, start: datetime, end: datetime, attributes: Attributes, error: str | None
    ) -> None:
        assert self._sink is not None
        self._sink.take(
            Span(name, "internal", self.trace_id, span_id, self._span_id, start, max(start, end), attributes, error)
        )


def _problem(state: State, error: JobError | None) -> str | None:
    if state is State.SUCCEEDED:
        return None
    return state.value if error is None else error.type[:200]


def _new_id(bits: int) -> int:
    return random.getrandbits(bits) or 1
