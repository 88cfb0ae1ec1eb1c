"""What the dispatcher asks of workers, and what it hears back; pure values and two small interfaces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from msgspec import Struct

from remoterun.messages import ArtifactInfo, JobError

Isolation = Literal["spawn", "fork", "warm"]
StopReason = Literal["cancelled", "timed_out", "output_limit", "memory_limit", "process_limit", "node_stopping"]


@dataclass(frozen=True, slots=True)
class Program:
    """A version of a script, ready to be executed; equal programs may share a warm worker."""

    name: str
    version: str
    path: Path  # where the author keeps it: __file__, tracebacks, and its folder on sys.path
    source: Path  # the copy of this very version that is executed
    entry: Literal["main"] | None  # None: a plain script
    isolation: Isolation
    preload: tuple[str, ...] = ()
    python: str = ""  # the interpreter of an environment of its own; empty: the node's
    paths: tuple[str, ...] = ()  # what is searched for modules after all that is installed
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the node's environment, and secrets
    native: bool = True  # every parameter is a plain JSON value: main takes them as they are
    memory: int = 0  # bytes of its whole tree; 0: no limit
    processes: int = 512
    files: int = 1024
    file_size: int = 0  # bytes; 0: no limit
    concurrency: int = 0  # at once; bounds how many warm workers there are
    result: int = 4 * 2**20  # bytes of JSON


class Handed(Struct, frozen=True, gc=False, array_like=True):
    """A file that a caller sent along, for a worker: where it stands, where it is kept, its name there."""

    place: tuple[str | int, ...]
    source: str
    name: str


class Assignment(Struct, frozen=True, gc=False):
    """One attempt of a job, for a worker."""

    job_id: str
    attempt: int
    program: Program
    params: bytes | None  # JSON text of an object
    args: tuple[str, ...]
    stdin: bytes | None
    trace: str | None
    files: tuple[Handed, ...] = ()


class Outcome(Struct, frozen=True, gc=False):
    """How an attempt ended. `result` is JSON text. `stopped` says why the node stopped it, if it did."""

    result: bytes | None = None
    error: JobError | None = None
    exit_code: int | None = None
    stopped: StopReason | None = None
    lost: bool = False  # the worker's keeper died: nobody can know how far it got
    artifacts: tuple[ArtifactInfo, ...] = ()
    output_bytes: int = 0
    output_cut: bool = False


class Sink(ABC):
    """Who hears what an attempt does; called on the event loop's thread, in order."""

    @abstractmethod
    def output(self, stream: Literal["stdout", "stderr"], data: bytes) -> bool:
        """Take output; False asks the worker to read no more until `Attempt.resume`."""

    @abstractmethod
    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Take progress."""

    @abstractmethod
    def began(self) -> None:
        """Hear that an attempt which was handed to a busy worker has begun."""

    @abstractmethod
    def returned(self) -> None:
        """Hear that an attempt which was handed to a busy worker will never begin; nothing comes after it."""

    @abstractmethod
    def ended(self, outcome: Outcome) -> None:
        """Take the end; nothing comes after it."""


class Attempt(ABC):
    """An attempt under way."""

    @abstractmethod
    def stop(self, reason: StopReason, grace: float) -> None:
        """Ask its main process to end (SIGTERM), and kill its whole tree after `grace` seconds."""

    @abstractmethod
    def resume(self) -> None:
        """Read its output again."""
