"""What a running script may tell whoever called it: progress, artifacts, a result.

    from remoterun import script

    def main(picture: Annotated[Path, script.Upload]) -> None: ...

    for page in script.track(pages, message="reading"):
        ...
    figure.savefig(script.artifact("plot.png"))

Outside a node all of it is harmless: progress shows on a terminal, artifacts go to the current folder.
Standard library only, and little of it: every script's environment can import this, and pays for it.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

__all__ = ["JobInfo", "Upload", "artifact", "job", "progress", "result", "track"]

T = TypeVar("T")

_INTERVAL = 0.05  # seconds between two lines of progress, in the long run
_BURST = 1.0  # seconds by which news may run ahead of that: 20 lines at once
_MESSAGE = 600  # characters; JSON takes at most six bytes for each, and a line has at most 4096 (PIPE_BUF)


class JobInfo(NamedTuple):
    """The job that this process runs for; `id` is None outside a node."""

    id: str | None
    attempt: int  # from 1; higher where an earlier attempt failed or was lost
    trace: str | None  # W3C traceparent of the caller


class Upload:
    """Mark a parameter as a file that the caller sends along: `picture: Annotated[Path, script.Upload]`.

    The script gets the path of a copy of its own, in the job's folder, under the caller's name for it.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Say in a parameter's JSON Schema that it is a file; pydantic asks, where it describes the parameters."""
        schema: dict[str, Any] = handler(core_schema)
        if schema.get("format") != "path":
            raise TypeError("script.Upload marks a path: write Annotated[Path, script.Upload]")
        return {**schema, "format": "upload"}


def job() -> JobInfo:
    """Tell which job this process runs for."""
    env = os.environ
    return JobInfo(env.get("REMOTERUN_JOB"), int(env.get("REMOTERUN_ATTEMPT", "1")), env.get("TRACEPARENT"))


def progress(done: float, total: float | None = None, message: str | None = None) -> None:
    """Say how far the job is; cheap enough for an inner loop.

    Calls that follow each other within 50 ms are left out, unless the work is done or the message is
    new; the script never waits for whoever watches it.

    Parameters:
        done: how much is done, in any unit.
        total: how much there is, in the same unit; None where nobody knows.
        message: what is going on, one line, 600 characters at most.

    Raises:
        ValueError: a number is not finite.
    """
    global _channel
    if not (math.isfinite(done) and (total is None or math.isfinite(total))):
        raise ValueError(f"progress counts in finite numbers, not {done} of {total}")
    key = (os.environ.get("REMOTERUN_PROGRESS"), *job(), os.getpid())
    if _channel is None or _channel.key != key:
        previous, _channel = _channel, _Channel(key)
        if previous is not None:
            previous.close()
    _channel.send(done, total, message)


def track(iterable: Iterable[T], total: float | None = None, message: str | None = None) -> Iterator[T]:
    """Iterate, and report each item as progress.

    Parameters:
        iterable: what to go through.
        total: how many there are; taken from the iterable where it has a length.
        message: what is going on, one line.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    done = 0
    progress(done, total, message)
    for item in iterable:
        yield item
        done += 1
        progress(done, total, message)
    if total is None:
        progress(done, done, message)


def artifact(name: str) -> Path:
    """Give the path to write a file to that the caller can fetch; its folder is there.

    Parameters:
        name: the file's name, with `/` for folders: `plot.png`, `pages/1.html`.

    Raises:
        ValueError: the name leads out of the job's folder, or is none.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.endswith("/") or name.startswith("/") or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} is no artifact's name; write it like plot.png or pages/1.html")
    folder = Path(os.environ.get("REMOTERUN_ARTIFACTS") or ".").resolve()
    path = folder.joinpath(*parts)
    if not path.resolve().is_relative_to(folder):
        raise ValueError(f"{name!r} leads out of the job's folder through a link")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def result(value: Any) -> None:
    """Leave the job's result, as a plain script; a function script returns it instead.

    The file appears whole or not at all; a later call replaces it.

    Parameters:
        value: anything that JSON can say.

    Raises:
        TypeError, ValueError: JSON cannot say it.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    target = os.environ.get("REMOTERUN_RESULT")
    if target is None:
        return
    draft = Path(f"{target}.{os.getpid()}")
    draft.write_bytes(text.encode("utf-8", "replace"))
    draft.replace(target)


class _Channel:
    """Where one process writes the progress of one attempt."""

    def __init__(self, key: tuple[object, ...]) -> None:
        self.key = key
        self._terminal = key[0] is None and sys.stderr is not None and sys.stderr.isatty()
        self._fd = _open(str(key[0])) if key[0] is not None else None
        self._next = 0.0  # when the next line is due, on the monotonic clock
        self._message: str | None = None

    def send(self, done: float, total: float | None, message: str | None) -> None:
        if self._fd is None and not self._terminal:
            return
        now = time.monotonic()
        if message is not None:
            message = message[:_MESSAGE]
        if done != total:
            is_news = message != self._message
            if self._next - now > (_BURST if is_news else 0.0):
                return
        self._next = max(self._next, now) + _INTERVAL
        self._message = message
        if self._fd is None:
            _show(done, total, message)
        else:
            self._write(_line(done, total, message))

    def _write(self, line: bytes) -> None:
        assert self._fd is not None
        try:
            os.write(self._fd, line)
        except BlockingIOError:
            pass  # the reader is behind: the next line says more than this one
        except OSError:  # the reader is gone, or the script closed all descriptors
            self._fd = None

    def close(self) -> None:
        # After a fork the number may stand for another file by now, so only the process that opened it closes it.
        if self._fd is not None and self.key[-1] == os.getpid():
            os.close(self._fd)
        self._fd = None


_channel: _Channel | None = None


def _open(path: str) -> int | None:
    # Not blocking: a FIFO that nobody reads would hold the script up for ever.
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None


def _line(done: float, total: float | None, message: str | None) -> bytes:
    value: dict[str, object] = {"done": _number(done), "total": None if total is None else _number(total)}
    value["message"] = message
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def _number(value: float) -> float:
    # numpy's and Decimal's numbers are none to the json module
    return int(value) if isinstance(value, int) else float(value)


def _show(done: float, total: float | None, message: str | None) -> None:
    share = f"{done:g}" if total is None else f"{done:g}/{total:g}"
    text = f"{share} {' '.join(message.split())}" if message else share
    sys.stderr.write(f"\r{text}\x1b[K" + ("\n" if done == total else ""))
    sys.stderr.flush()
