"""`remoterun doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from remoterun.cli.serve import load_settings
from remoterun.cli.session import node_session, wants_json
from remoterun.cli.tables import print_table
from remoterun.errors import RemoterunError
from remoterun.messages import encode

Verdict = Literal["ok", "warn", "fail"]

_SYNCS = 20  # enough for a median
_SLOW_SYNC = 0.02  # seconds: below 50 commits/s a submit is felt
_FEW_FILES = 4096  # connections, pipes of jobs and logs share them
_PR_GET_CHILD_SUBREAPER = 37


class Finding(NamedTuple):
    """What one look found."""

    what: str
    verdict: Verdict
    message: str  # with what to do, where it is not ok


def doctor_options(parser: ArgumentParser) -> None:
    """Add the options of `doctor`: there are none of its own."""
    parser.epilog = "Exit code 1 where something fails."


def doctor(options: Namespace) -> int:
    """Look at this machine and the local node, and say what was found."""
    findings = list(_look(options))
    if wants_json(options):
        print(encode([finding._asdict() for finding in findings]).decode())
    else:
        print_table(("CHECK", "", "FOUND"), findings)
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


def _look(options: Namespace) -> Iterator[Finding]:
    for look in (_python, _uvloop, _pidfd, _subreaper, _cgroups, _open_files, _clock):
        yield look()
    try:
        settings = load_settings(options, {}).node
    except RemoterunError as error:
        yield Finding("configuration", "fail", str(error))
        return
    yield Finding("configuration", "ok", "can be read")
    data = Path(settings.data)
    yield check_data(data)
    yield check_sync(data)
    yield check_uv()
    for folder in settings.scripts:
        yield check_scripts(Path(folder))
    yield _node(options)


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _uvloop() -> Finding:
    if find_spec("uvloop") is None:
        return Finding("uvloop", "warn", "not installed: about half the calls per second; pip install uvloop")
    return Finding("uvloop", "ok", "installed")


def _pidfd() -> Finding:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return Finding("pidfd", "fail", f"not available ({error}): jobs cannot be signalled safely; needs Linux 5.3")
    return Finding("pidfd", "ok", "available")


def _subreaper() -> Finding:
    answer = ctypes.c_int()
    if ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) != 0:
        return Finding("subreaper", "warn", "not available: a job's grandchildren may escape its end; needs Linux 3.4")
    return Finding("subreaper", "ok", "available")


def _cgroups(root: Path = Path("/sys/fs/cgroup")) -> Finding:
    advice = "limits of memory and processes are enforced by rlimits and watching; run under systemd with Delegate=yes"
    if (root / "cgroup.controllers").exists():
        own = root / _own_cgroup("0::").lstrip("/")
        controllers = (root / "cgroup.controllers").read_text().split()
        if not os.access(own, os.W_OK):
            return Finding("cgroups", "warn", f"v2, and {own} is not writable: {advice}")
        missing = {"memory", "pids"} - set(controllers)
        if missing:
            return Finding("cgroups", "warn", f"v2 without {', '.join(sorted(missing))}: {advice}")
        return Finding("cgroups", "ok", f"v2, writable, with {' '.join(controllers)}")
    usable = [name for name in ("memory", "pids") if os.access(root / name, os.W_OK)]
    if usable:
        return Finding("cgroups", "ok" if len(usable) == 2 else "warn", f"v1, writable: {', '.join(usable)}")
    return Finding("cgroups", "warn", f"none that this user may write: {advice}")


def _own_cgroup(prefix: str) -> str:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next((line.removeprefix(prefix) for line in lines if line.startswith(prefix)), "/")


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FEW_FILES <= hard or (hard == resource.RLIM_INFINITY and soft < _FEW_FILES):
        return Finding("open files", "ok", f"{soft}, can be raised to {hard}")
    if soft < _FEW_FILES:
        return Finding("open files", "warn", f"at most {soft}: few connections; raise it (LimitNOFILE=, ulimit -n)")
    return Finding("open files", "ok", str(soft))


def _clock() -> Finding:
    if datetime.now(UTC).year < 2024:
        return Finding("clock", "fail", f"it says {datetime.now(UTC):%Y-%m-%d}: tokens and ids need the right time")
    return Finding("clock", "ok", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}, resolution {_resolution()}")


def _resolution() -> str:
    return f"{time.get_clock_info('time').resolution:.0e} s"


def check_data(folder: Path) -> Finding:
    """Say whether a data folder is ours alone."""
    if not folder.exists():
        parent = next(parent for parent in folder.parents if parent.exists())
        if os.access(parent, os.W_OK):
            return Finding("data folder", "ok", f"{folder} will be made at the first start")
        return Finding("data folder", "fail", f"{folder} cannot be made: {parent} is not writable; use --data DIR")
    if not os.access(folder, os.W_OK):
        return Finding("data folder", "fail", f"{folder} is not writable; chown it, or use --data DIR")
    if folder.stat().st_mode & 0o077:
        return Finding(
            "data folder", "fail", f"others may enter {folder}, where tokens and logs are: chmod 700 {folder}"
        )
    return Finding("data folder", "ok", f"{folder}, this user's alone")


def check_sync(folder: Path) -> Finding:
    """Measure how long the data folder's disk takes to make a write durable."""
    where = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        median = _median_sync(where)
    except OSError as error:
        return Finding("disk", "fail", f"{where} cannot be written: {error.strerror}")
    text = f"{median * 1000:.2g} ms for a durable write, about {1 / median:,.0f} commits/s"
    if median > _SLOW_SYNC:
        return Finding("disk", "warn", f"{text}: each submit waits for one; put the data folder on a faster disk")
    return Finding("disk", "ok", text)


def _median_sync(folder: Path, clock: Callable[[], float] = time.perf_counter) -> float:
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            start = clock()
            file.write(b"\0" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            taken.append(clock() - start)
    return statistics.median(taken)


def check_scripts(folder: Path) -> Finding:
    """Say whether a scripts folder can be read, and whether others may change what runs."""
    if not folder.is_dir():
        return Finding("scripts", "warn", f"there is no folder {folder}; make it, or name another: serve SCRIPTS")
    if not os.access(folder, os.R_OK | os.X_OK):
        return Finding("scripts", "fail", f"{folder} cannot be read")
    others = [path for path in (folder, *sorted(folder.rglob("*.py"))) if path.stat().st_mode & 0o002]
    if others:
        return Finding("scripts", "fail", f"others may write {others[0]}, so it is refused: chmod o-w {others[0]}")
    return Finding("scripts", "ok", str(folder))


def check_uv() -> Finding:
    """Say whether scripts can have packages of their own."""
    import subprocess

    from remoterun.environments.uv import NoUv, find_uv

    try:
        said = subprocess.run([find_uv(), "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except NoUv:
        advice = "scripts that say `dependencies` cannot be called; pip install 'remoterun[environments]'"
        return Finding("uv", "warn", f"not installed: {advice}")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("uv", "fail", f"it cannot be run ({error}); pip install --force-reinstall uv")
    return Finding("uv", "ok", said.strip())


def _node(options: Namespace) -> Finding:
    try:
        with node_session(options) as session:
            info = session.info()
    except RemoterunError as error:
        return Finding("node", "warn", str(error))
    load = info.load
    return Finding(
        "node", "ok", f"{info.node} answers: remoterun {info.version}, {load.running} of {load.workers} running"
    )
