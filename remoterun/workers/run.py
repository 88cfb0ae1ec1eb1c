"""An attempt under way: what it was asked, what it has said so far, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET

from remoterun.messages import FieldError, JobError, Progress
from remoterun.workers import frames
from remoterun.workers.interface import Assignment, Attempt, Outcome, Sink, StopReason

if TYPE_CHECKING:
    from remoterun.workers.worker import Worker

Stream = Literal["stdout", "stderr"]

_PROGRESS_EVERY = 0.05  # seconds between two progress events of one attempt; the last one is never dropped

_progress_decoder = msgspec.json.Decoder(Progress)
_json_decoder = msgspec.json.Decoder()


class _ErrorPayload(msgspec.Struct, frozen=True):
    type: str
    message: str
    traceback: str | None = None
    fields: tuple[FieldError, ...] = ()
    exit_code: int = 1


_error_decoder = msgspec.json.Decoder(_ErrorPayload)


class Run(Attempt):
    """An attempt: what it was asked, what it has said, how it is to end.

    Parameters:
        keep_output: bytes of output that go to the sink; what is beyond is counted and dropped.
        stop_output: bytes of output after which it is stopped.
    """

    __slots__ = (
        "_kept",
        "_loop",
        "_pending_progress",
        "_progress_timer",
        "_progressed",
        "assignment",
        "began",
        "behind",
        "cut",
        "has_ended",
        "keep_output",
        "on_stop",
        "output_bytes",
        "reply",
        "sink",
        "stop_output",
        "stopped",
        "worker",
    )

    def __init__(self, assignment: Assignment, sink: Sink, keep_output: int, stop_output: int) -> None:
        self.assignment = assignment
        self.keep_output = keep_output
        self.stop_output = stop_output
        self.worker: Worker | None = None
        self.stopped: StopReason | None = None
        self.reply: tuple[int, bytes] | None = None
        self.output_bytes = 0
        self.cut = False
        self.has_ended = False
        self.behind: Worker | None = None  # it was handed to this one, which is busy with others
        self.began = 0.0
        self.on_stop: Callable[[Run, float], None] | None = None
        self.sink = sink
        self._kept = 0
        self._pending_progress: Progress | None = None
        self._progress_timer: asyncio.TimerHandle | None = None
        self._progressed = 0.0

    def stop(self, reason: StopReason, grace: float) -> None:
        if grace and self.worker is not None:
            self.worker.read_replies()  # it may have ended by itself
        if self.has_ended or self.stopped is not None:
            return
        self.stopped = reason
        if self.on_stop is not None:
            self.on_stop(self, grace)

    def resume(self) -> None:
        if self.worker is not None and not self.has_ended:
            self.worker.pipes.resume()

    def take_output(self, stream: Stream, data: bytes) -> bool:
        """Count output and pass on what is within the limit; False: the sink wants no more for now."""
        self.output_bytes += len(data)
        room = self.keep_output - self._kept
        if len(data) > room:
            self.cut = True
            data = data[:room]
        self._kept += len(data)
        wants_more = self.sink.output(stream, data) if data else True
        if self.output_bytes > self.stop_output:
            self.stop("output_limit", 0)
        return wants_more

    def take_progress(self, line: bytes) -> None:
        """Take a line of the progress pipe; what is no progress is ignored, what comes too often waits."""
        try:
            progress = _progress_decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        loop = asyncio.get_running_loop()
        self._pending_progress = progress
        if self._progress_timer is not None:
            return
        delay = self._progressed + _PROGRESS_EVERY - loop.time()
        if delay <= 0:
            self._send_progress()
        else:
            self._progress_timer = loop.call_later(delay, self._send_progress)

    def _send_progress(self) -> None:
        if self._progress_timer is not None:
            self._progress_timer.cancel()
            self._progress_timer = None
        progress, self._pending_progress = self._pending_progress, None
        if progress is not None:
            self._progressed = asyncio.get_running_loop().time()
            self.sink.progress(progress.done, progress.total, progress.message)

    def end(self, outcome: Outcome) -> None:
        """Tell the sink how it ended, once."""
        if self.has_ended:
            return
        self.has_ended = True
        if self._pending_progress is not None or self._progress_timer is not None:
            self._send_progress()
        self.worker = None
        self.sink.ended(outcome)

    def outcome(self, exit_code: int | None, **more: Any) -> Outcome:
        """Put together how it ended, from what the worker replied and how its process exited."""
        result: bytes | None = None
        error: JobError | None = None
        if self.reply is not None:
            kind, payload = self.reply
            result, error, replied = _read_reply(kind, payload)
            exit_code = replied if exit_code is None or error is not None else exit_code
        elif exit_code is not None and exit_code < 0 and self.stopped is None:
            error = JobError(type="Signal", message=f"ended by signal {-exit_code}")
        return Outcome(
            result=result,
            error=error,
            exit_code=exit_code,
            stopped=self.stopped,
            output_bytes=self.output_bytes,
            output_cut=self.cut,
            **more,
        )


def _read_reply(kind: int, payload: bytes) -> tuple[bytes | None, JobError | None, int]:
    """Decode a worker's reply; the script can write into its socket, so nothing in it is trusted."""
    try:
        if kind == frames.RESULT:
            if payload:
                _json_decoder.decode(payload)
            return payload or None, None, 0
        if kind == frames.ERROR:
            body = _error_decoder.decode(payload)
            error = JobError(
                type=body.type, message=body.message, traceback=body.traceback, fields=body.fields or UNSET
            )
            return None, error, body.exit_code
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = str(error)
    else:
        reason = "it is none of the two kinds that there are"
    return None, JobError(type="WorkerError", message=f"the worker's reply cannot be read: {reason}"), 1
