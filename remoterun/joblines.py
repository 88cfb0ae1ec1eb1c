"""Lines in the log about jobs and refused calls: who, what, how it ended; never what was passed in or came out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from remoterun.errors import ServiceError
from remoterun.logs import with_fields
from remoterun.service import Origin
from remoterun.states import FINAL, State

if TYPE_CHECKING:
    from remoterun.live import LiveJob

LogJobs = Literal["none", "failed", "all"]

logger = logging.getLogger("remoterun.jobs")

_STATES: Final[Mapping[LogJobs, frozenset[State]]] = {
    "none": frozenset(),
    "failed": frozenset(FINAL) - {State.SUCCEEDED},
    "all": frozenset(FINAL),
}


class JobLines:
    """Writes a line for each end of a job that is to be logged, and for each refused call.

    Parameters:
        which: the jobs to log; refused calls go with those that failed.
    """

    def __init__(self, which: LogJobs) -> None:
        self.states = _STATES[which]  # of those jobs; asked before anything is done, at every end of a job
        self._log_refusals = which != "none"

    def ended(self, job: LiveJob) -> None:
        """Log how a job ended. Of its error only the type: messages quote parameters and output."""
        fields = {
            **about(job),
            "state": job.state.value,
            "exit_code": job.exit_code,
            "error": None if job.error is None else job.error.type[:200],
        }
        if job.started is not None and job.ended_at is not None:
            fields["seconds"] = round((job.ended_at - job.started).total_seconds(), 6)
            fields["queue_seconds"] = round((job.started - job.created).total_seconds(), 6)
        logger.info("job %s", job.state.value, extra=with_fields(fields))

    def refused(
        self, error: ServiceError, principal: str | None, origin: Origin, operation: str, script: str | None
    ) -> None:
        """Log a refused call, without the error's message: it quotes what the caller sent."""
        if self._log_refusals:
            fields = {
                "code": error.code,
                "operation": operation,
                "script": None if script is None else script[:200],
                "principal": principal,
                "transport": origin.transport,
                "peer": origin.peer or None,
            }
            logger.info("refused: %s", error.code, extra=with_fields(fields))


def about(job: LiveJob) -> dict[str, Any]:
    """Give the fields of a record that belongs to a job."""
    return {
        "job": job.id,
        "script": job.script.name,
        "principal": job.principal,
        "transport": job.transport,
        "trace": trace_id(job.trace) if job.span is None else f"{job.span.trace_id:032x}",
        "attempt": job.attempt,
    }


def trace_id(traceparent: str | None) -> str | None:
    """Give the trace id of a W3C traceparent."""
    return None if traceparent is None else traceparent.split("-")[1]
