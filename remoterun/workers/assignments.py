"""Assignments as the JSON that a worker reads; `child` has the other end."""

from __future__ import annotations

import base64
from typing import Any, cast

import msgspec

from remoterun.workers.interface import Assignment


def first_message(assignment: Assignment) -> bytes:
    """Write the job that a worker begins with."""
    program = assignment.program
    job = {
        "isolation": program.isolation,
        "name": program.name,
        "path": str(program.path),
        "source": str(program.source),
        "entry": program.entry,
        "native": program.native,
        "paths": program.paths,
        "env": dict(program.env),
        "args": assignment.args,
        "limits": {
            "memory": program.memory,
            "files": program.files,
            "file_size": program.file_size,
            "result": program.result,
        },
        **cast(dict[str, Any], _call(assignment)),
    }
    return msgspec.json.encode(job)


def next_message(assignment: Assignment) -> bytes:
    """Write a further call for a warm worker."""
    if assignment.stdin is None and assignment.trace is None and not assignment.files:
        return b'{"job":"%b","attempt":%d,"params":%b}' % (
            assignment.job_id.encode(),
            assignment.attempt,
            assignment.params or b"{}",
        )
    return msgspec.json.encode(_call(assignment))


def _call(assignment: Assignment) -> dict[str, object]:
    return {
        "job": assignment.job_id,
        "attempt": assignment.attempt,
        "params": msgspec.Raw(assignment.params or b"{}"),
        "stdin": None if assignment.stdin is None else base64.b64encode(assignment.stdin).decode(),
        "trace": assignment.trace,
        "files": assignment.files,
    }
