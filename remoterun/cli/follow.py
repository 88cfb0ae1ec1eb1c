"""Follow a job on a terminal or into pipes: output as it comes, progress in one line, the result last."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from remoterun.cli.outs import Out, is_terminal, out_for, write_all
from remoterun.client import is_plain
from remoterun.messages import Event, Job, OutputEvent, ProgressEvent
from remoterun.service import Session
from remoterun.states import State

if TYPE_CHECKING:
    from remoterun.cli.progress import ProgressLine

_TAIL = 64 * 1024  # bytes of stderr kept, to see whether it ends with the traceback already
_ERASE_LINE = b"\r\x1b[K"


class Display:
    """Where a job's events are shown.

    Parameters:
        quiet: show neither output nor result, for `--json`.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.last = 0  # number of the last event shown
        self._quiet = quiet
        self._outs: dict[str, Out] = {"stdout": out_for(1), "stderr": out_for(2)}
        self._shows_progress = is_terminal(2)
        self._progress: ProgressLine | None = None
        self._has_progress_line = False
        self._midline = False  # whether stdout stands in the middle of a line
        self._stderr_tail = b""

    def show(self, event: Event) -> None:
        """Show one event."""
        self.last = event.n
        if isinstance(event, OutputEvent):
            self._output(event)
        elif isinstance(event, ProgressEvent) and self._shows_progress:
            self._to_terminal(_ERASE_LINE + self._progress_line(event).encode())
            self._has_progress_line = True

    def _progress_line(self, event: ProgressEvent) -> str:
        if self._progress is None:
            from remoterun.cli.progress import ProgressLine  # here: it takes rich, which most calls need not

            self._progress = ProgressLine()
        return self._progress.show(event)

    def close(self) -> None:
        """Write what is held back, and take the progress line away."""
        self._erase_progress()
        for out in self._outs.values():
            out.close()

    def finish(self, job: Job) -> None:
        """Show how the job ended: a function script's result on stdout, what went wrong on stderr."""
        self.close()
        if job.state == State.SUCCEEDED:
            self._result(job)
        else:
            self._failure(job)

    def _output(self, event: OutputEvent) -> None:
        data = event.raw()
        if event.stream == "stderr":
            self._stderr_tail = (self._stderr_tail + data)[-_TAIL:]
        elif data:
            self._midline = not data.endswith(b"\n")
        if not self._quiet:
            self._erase_progress()
            self._outs[event.stream].write(data)

    def _result(self, job: Job) -> None:
        text = bytes(job.result_json)
        if self._quiet or is_plain(job) or text == b"null":
            return
        newline = b"\n" if self._midline else b""
        self._outs["stdout"].write(newline + text + b"\n")
        self._outs["stdout"].close()

    def _failure(self, job: Job) -> None:
        from remoterun.cli.terminal import safe_line, safe_text

        error = job.error
        if error is not None and error.traceback:
            if error.traceback.strip().encode() not in self._stderr_tail:
                print(safe_text(error.traceback.rstrip()), file=sys.stderr)
        elif not _is_plain_exit(job):
            print(f"remoterun: {safe_line(job.failure())}", file=sys.stderr)
            for field in () if error is None else error.bad_fields:
                print(f"  {safe_line(field.field)}: {safe_line(field.message)}", file=sys.stderr)

    def _erase_progress(self) -> None:
        if self._has_progress_line:
            self._has_progress_line = False
            self._to_terminal(_ERASE_LINE)

    def _to_terminal(self, data: bytes) -> None:
        write_all(2, data)


def _is_plain_exit(job: Job) -> bool:
    """Whether the script itself chose its exit code, which then says it all, as in a shell."""
    chosen = job.state == State.FAILED and job.exit_code is not None and job.exit_code > 0
    return chosen and (job.error is None or job.error.type == "SystemExit")


def follow(session: Session, job_id: str, display: Display) -> None:
    """Show a job's events from where the display stands, to the final one."""
    for event in session.events(job_id, display.last):
        display.show(event)
