"""The journal of starts that the scripts of the kill tests keep."""

import os


def note(journal: str) -> None:
    """Append job, attempt and process to the journal, in one write."""
    line = f"{os.environ['REMOTERUN_JOB']} {os.environ['REMOTERUN_ATTEMPT']} {os.getpid()}\n"
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)
