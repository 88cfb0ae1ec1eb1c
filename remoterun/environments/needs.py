"""What a script's metadata asks for, and the key that equal needs share; pure."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

FORMAT = 1  # of what is in an environment; a new number builds all anew
OLDEST_PYTHON = "3.11"  # what runs inside a script's process needs


class Needs(Struct, frozen=True):
    """What an environment is built from. Equal keys share one."""

    key: str
    script: str  # its file's name, for messages and for uv
    block: str  # the metadata block's TOML
    requires_python: str  # a version range; empty: any
    lock: bytes | None  # what stands in `<script>.lock`


def needs_of(script: str, table: Mapping[str, Any], lines: Iterable[str], lock: bytes | None) -> Needs:
    """Take what a metadata block asks for, and the lock file beside it.

    Parameters:
        script: the file's name.
        table: the block, parsed; `lines`, its text.
        lock: the lock file's bytes.
    """
    tool = table.get("tool")
    wanted = {
        "format": FORMAT,
        "dependencies": sorted(table.get("dependencies", ())),
        "requires-python": table.get("requires-python", ""),
        "uv": tool.get("uv") if isinstance(tool, dict) else None,  # its indexes and sources
        "lock": None if lock is None else hashlib.sha256(lock).hexdigest(),
        "python": [platform.python_version(), platform.python_implementation(), base_python()],
        "platform": sysconfig.get_platform(),
    }
    text = json.dumps(wanted, sort_keys=True, default=str)
    return Needs(
        key=hashlib.sha256(text.encode()).hexdigest()[:32],
        script=script,
        block="\n".join(lines),
        requires_python=wanted["requires-python"],
        lock=lock,
    )


def base_python() -> str:
    """Give the interpreter that this process's own environment was made from."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)
