"""Describe a script by importing it, in a process of its own: bounded in time and output, with a clean environment."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from remoterun.catalog.defect import Defect

TIMEOUT = 10.0  # seconds
_STEP = 0.2  # seconds between looks at whether the node stops
_MAX_OUTPUT = 2**20  # bytes
_DESCRIBE = Path(__file__).parent.parent / "workers" / "describe.py"
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


class Imported(msgspec.Struct, frozen=True):
    """What importing a script told."""

    schema: dict[str, Any] = msgspec.field(default_factory=dict)
    imports: dict[str, str] = msgspec.field(default_factory=dict)  # the author's own modules: path → SHA-256
    error: str | None = None
    line: int | None = None


def describe(
    path: str,
    source: Path,
    python: str,
    env: Mapping[str, str],
    stop: threading.Event,
    typed_modules: Path | None = None,
) -> Imported:
    """Import a script in a fresh process and give the schema of its parameters.

    Parameters:
        path: where the author keeps it.
        source: the copy that is executed.
        python: the interpreter.
        env: what the script sees of the node's environment.
        stop: set when the node stops; the import is then given up.
        typed_modules: where pydantic is, for an environment that may have none.

    Raises:
        Defect: the import failed, hung, or its process died.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | dict(env)
    with tempfile.TemporaryDirectory(prefix="remoterun-describe-") as cwd, tempfile.TemporaryFile() as output:
        command = [python, "-P", "-B", str(_DESCRIBE), path, str(source), "main", str(output.fileno())]
        command += [] if typed_modules is None else [str(typed_modules)]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=cwd,
                pass_fds=(output.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            raise Defect(f"{python} cannot be started: {error.strerror}", passing=True) from error
        ended = _wait(process.pid, stop)
        # Its group is killed before it is reaped: until then nobody else can have its number.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        if not ended:
            raise Defect(f"importing it took longer than {TIMEOUT:g} s; move its work into main", passing=True)
        output.seek(0)
        return _read(output.read(_MAX_OUTPUT + 1), status)


def are_unchanged(imports: Mapping[str, str]) -> bool:
    """Whether modules still are what they were when their SHA-256 was taken."""
    return all(_digest(path) == digest for path, digest in imports.items())


def signatures(imports: Mapping[str, str]) -> tuple[tuple[int, int] | None, ...]:
    """Give what changes when one of these modules is written; cheaper than a look at their bytes."""
    return tuple(map(_signature, imports))


def _digest(path: str) -> str | None:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def _signature(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _wait(pid: int, stop: threading.Event) -> bool:
    """Wait for a process, not for whoever else holds its pipes; say whether it ended in time."""
    descriptor = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + TIMEOUT
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            if poller.poll(min(left, _STEP) * 1000):
                return True
        return False
    finally:
        os.close(descriptor)


def _read(data: bytes, status: int) -> Imported:
    if len(data) > _MAX_OUTPUT:
        raise Defect("the schema of its parameters is larger than 1 MiB")
    try:
        imported = msgspec.json.decode(data, type=Imported)
    except msgspec.DecodeError as error:
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        raise Defect(
            f"importing it ended the process ({how}); guard it by `if __name__ == '__main__'`", passing=True
        ) from error
    if imported.error is not None:
        raise Defect(imported.error, line=imported.line, passing=True)
    return imported
