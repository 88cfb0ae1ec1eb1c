"""What a script's metadata asks for beyond the standard library: `dependencies`, `requires-python`, a lock file."""

from __future__ import annotations

import os
import platform
import stat
from pathlib import Path
from typing import Any

from remoterun.catalog.defect import Defect
from remoterun.catalog.metadata import Metadata
from remoterun.catalog.scan import distrust
from remoterun.environments.needs import Needs, needs_of

_LARGEST_LOCK = 4 * 2**20  # bytes


def read(metadata: Metadata, path: str) -> Needs | None:
    """Give what a script's own environment is built from; None: the node's own suffices.

    Parameters:
        path: the script's; its lock file stands beside it.

    Raises:
        Defect: a field is malformed, or the lock file cannot be taken.
    """
    table = metadata.table
    fits = "requires-python" not in table or _check_python(metadata, table["requires-python"])
    dependencies = table.get("dependencies", [])
    if "dependencies" in table:
        _check_dependencies(metadata, dependencies)
    if fits and not dependencies:
        return None
    return needs_of(Path(path).name, table, metadata.lines, _read_lock(lock_of(path)))


def lock_of(path: str) -> str:
    """Give the place of a script's lock file, whether it is there or not."""
    return f"{path}.lock"


def line_of(metadata: Metadata) -> int | None:
    """Give the line that an environment's failure is about."""
    return metadata.line_of("dependencies") or metadata.line_of("requires-python")


def _check_python(metadata: Metadata, wanted: Any) -> bool:
    """Look whether the node's own Python is one that the script takes."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        if not isinstance(wanted, str):
            raise InvalidSpecifier
        return SpecifierSet(wanted).contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier as error:
        line = metadata.line_of("requires-python")
        raise Defect(f'requires-python: {wanted!r} is no version range; write it like ">=3.11"', line=line) from error


def _check_dependencies(metadata: Metadata, wanted: Any) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    line = metadata.line_of("dependencies")
    if not isinstance(wanted, list) or not all(isinstance(item, str) for item in wanted):
        raise Defect('dependencies must be a list of texts, like ["pillow>=10"]', line=line)
    for item in wanted:
        try:
            Requirement(item)
        except InvalidRequirement as error:
            raise Defect(f"dependencies: {item!r} is no requirement; write it like pillow>=10", line=line) from error


def _read_lock(path: str) -> bytes | None:
    """Read a lock file, having looked at the very file that was opened; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Defect(f"{path} cannot be read: {error.strerror}", passing=True) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise Defect(f"{path} is no regular file", passing=True)
    with open(descriptor, "rb") as file:
        data = file.read(_LARGEST_LOCK + 1)
    if reason := distrust(path, status):
        raise Defect(reason, passing=True)
    if len(data) > _LARGEST_LOCK:
        raise Defect(f"{path} is larger than 4 MiB", passing=True)
    return data
