"""What the node and the process that builds an environment say to each other; pure values."""

from __future__ import annotations

from msgspec import Struct


class Plan(Struct, frozen=True):
    """An environment to build, or only to resolve."""

    folder: str
    key: str
    script: str
    block: str
    requires_python: str
    lock: bytes | None
    python: str  # the interpreter to take, where it fits
    uv: str
    parent: int  # the process that it must not outlive
    only_resolve: bool = False


class Phase(Struct, frozen=True, tag="phase"):
    """How far a build is."""

    done: int
    total: int
    message: str


class Built(Struct, frozen=True, tag="built"):
    """It is there."""


class Failed(Struct, frozen=True, tag="failed"):
    """It cannot be built; `reason` is one line."""

    reason: str


Report = Phase | Built | Failed
