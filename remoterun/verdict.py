"""What an attempt's end means for its job; pure."""

from __future__ import annotations

import errno

import msgspec

from remoterun.config import Limits
from remoterun.messages import JobError
from remoterun.quantities import format_size
from remoterun.states import State
from remoterun.workers.interface import Outcome, Program, StopReason


def verdict(program: Program, limits: Limits, timeout: float, outcome: Outcome) -> tuple[State, JobError | None]:
    """Say which state an outcome means, and why.

    Parameters:
        program, limits: what the attempt was held to.
        timeout: of the attempt, in seconds.
    """
    if outcome.stopped is not None:
        return _stopped(program, limits, timeout, outcome.stopped)
    if outcome.lost:
        return State.LOST, JobError(type="WorkerDied", message="the fork server died while the job ran")
    if outcome.error is not None or outcome.exit_code:
        return State.FAILED, _explained(program, outcome.error)
    return State.SUCCEEDED, None


def _stopped(program: Program, limits: Limits, timeout: float, reason: StopReason) -> tuple[State, JobError | None]:
    """Say which state it means that the node stopped a job, and which limit it was."""
    if reason == "cancelled":
        return State.CANCELLED, None
    if reason == "timed_out":
        return State.TIMED_OUT, JobError(type="Timeout", message=f"it ran longer than its timeout of {timeout:g} s")
    if reason == "node_stopping":
        return State.LOST, JobError(type="NodeStopped", message="the node stopped before the job ended")
    if reason == "output_limit":
        most = format_size(limits.output_stop)
        return State.FAILED, JobError(type="OutputLimit", message=f"it wrote more than limits.output_stop = {most}")
    if reason == "memory_limit":
        most = format_size(program.memory)
        return State.FAILED, JobError(type="MemoryLimit", message=f"its processes used more than memory = {most}")
    message = f"it had more processes and threads than processes = {program.processes}"
    return State.FAILED, JobError(type="ProcessLimit", message=message)


def _explained(program: Program, error: JobError | None) -> JobError | None:
    """Name the limit behind an error of the script's own, where there is one."""
    if error is None:
        return None
    message = error.message
    if error.type == "MemoryError" and program.memory:
        message = f"it asked for more than memory = {format_size(program.memory)}"
    elif error.type == "OSError" and message.startswith(f"[Errno {errno.EFBIG}]") and program.file_size:
        message += f" (file_size = {format_size(program.file_size)})"
    elif error.type == "OSError" and message.startswith(f"[Errno {errno.EMFILE}]"):
        message += f" (files = {program.files})"
    return error if message == error.message else msgspec.structs.replace(error, message=message)
