"""The exit codes of the command line."""

from __future__ import annotations

from remoterun.messages import Job
from remoterun.states import State

OURS = 125  # remoterun refused or failed; the script did not
TIMEOUT = 124  # as timeout(1)
FAILED = 1  # a script that failed and left no exit code: an exception in main
SIGNAL = 128  # + its number
INTERRUPTED = SIGNAL + 2
SIGPIPE = SIGNAL + 13
SIGTERM = SIGNAL + 15


def exit_code(job: Job) -> int:
    """Give the exit code that an ended job means: the script's own wherever it has one."""
    if job.state == State.SUCCEEDED:
        return 0
    if job.state == State.TIMED_OUT:
        return TIMEOUT
    if job.exit_code:
        return job.exit_code if job.exit_code > 0 else SIGNAL - job.exit_code
    if job.state == State.CANCELLED:
        return SIGTERM
    return OURS if job.state == State.LOST else FAILED
