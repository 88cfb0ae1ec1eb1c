"""Find an interpreter that a script's requires-python takes: ours, one in PATH, or one that uv manages."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from remoterun.environments.needs import OLDEST_PYTHON

_NAME = re.compile(r"python3(?:\.(\d+))?")
_TELL = (
    "import platform, sys; print(platform.python_implementation(), platform.python_version(),"
    " getattr(sys, '_base_executable', None) or sys.executable, sep='\\n')"
)
_TIMEOUT = 10.0  # seconds; what takes longer is none


def find_python(wanted: str, ours: str, uv: str, env: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """Give an interpreter whose version is in a range and not older than what scripts can run under.

    Parameters:
        wanted: the range, as in requires-python.
        ours: the interpreter of our own environment, which is taken where it fits.
        uv, env: what to ask, and with which variables, for interpreters that uv manages.

    Returns:
        its path, or None; and the versions that do not fit.
    """
    from packaging.specifiers import SpecifierSet

    range_ = SpecifierSet(wanted) & SpecifierSet(f">={OLDEST_PYTHON}")
    seen = [platform.python_version()]
    if range_.contains(seen[0], prereleases=True):
        return ours, seen
    for command in (*_in_path(env), [uv, "python", "find", "--managed-python", "--no-project", str(range_)]):
        found = _version_of(command[0], env) if len(command) == 1 else _managed(command, env)
        if found is None:
            continue
        version, path = found
        if range_.contains(version, prereleases=True):
            return path, seen
        if version not in seen:
            seen.append(version)
    return None, seen


def _in_path(env: Mapping[str, str]) -> Iterator[list[str]]:
    """Give the programs in PATH that are named like an interpreter, the newest of each folder first."""
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        try:
            names = [entry.name for entry in Path(folder or ".").iterdir()]
        except OSError:
            continue
        numbered = [(int(found[1] or 0), name) for name in names if (found := _NAME.fullmatch(name))]
        for _, name in sorted(numbered, reverse=True):
            yield [str(Path(folder, name))]


def _version_of(path: str, env: Mapping[str, str]) -> tuple[str, str] | None:
    """Ask an interpreter for its version and where it really is; None where it is none (pyenv's shims may not be)."""
    said = _run([path, "-I", "-S", "-c", _TELL], env)
    lines = said.splitlines()
    if len(lines) != 3 or lines[0] != "CPython":
        return None
    return lines[1], lines[2]


def _managed(command: list[str], env: Mapping[str, str]) -> tuple[str, str] | None:
    path = _run(command, env).strip()
    return _version_of(path, env) if path else None


def _run(command: list[str], env: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, timeout=_TIMEOUT, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout
