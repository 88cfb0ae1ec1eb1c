"""What holds a node and its jobs: who started it, in what groups and namespaces, under which filters and limits."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from remoterun.cli.doctor.finding import Finding

_NAMESPACES = {"user": 0x10000000, "pid": 0x20000000, "net": 0x40000000}  # CLONE_NEW…, see clone(2)
_UNBOUND = 2**60  # v1 says no limit by a number about 2**63
_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")


def look(pid: int, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Look at what holds a process: a running node, or this one instead.

    Parameters:
        pid: of the process.
        environ: of this process, where engines leave their marks.
    """
    whose = "the node" if pid != os.getpid() else "this process"
    yield _keeper(pid, environ)
    yield _groups(pid)
    yield _namespaces()
    yield _filters(pid, whose)


def _keeper(pid: int, environ: Mapping[str, str]) -> Finding:
    containers, units = list(_containers(environ)), list(_units(_text(Path(f"/proc/{pid}/cgroup"))))
    nobody = "nobody: neither a container nor a systemd unit"
    public = ", ".join([*containers, *("a systemd unit" for _ in units)])
    return Finding("kept by", "ok", ", ".join([*containers, *units]) or nobody, public or nobody)


def _containers(environ: Mapping[str, str]) -> Iterator[str]:
    if "KUBERNETES_SERVICE_HOST" in environ:
        yield "a pod of Kubernetes"
    elif Path("/.dockerenv").exists():
        yield "a container of Docker"
    elif Path("/run/.containerenv").exists():
        yield "a container of Podman"
    elif kind := environ.get("container", ""):
        yield f"a container ({kind if kind.isascii() and kind.isalnum() else 'of some kind'})"


def _units(groups: str) -> Iterator[str]:
    for unit in sorted({match[1] for match in _UNIT.finditer(groups)}):
        yield f"the systemd unit {unit}"


def _groups(pid: int, root: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Say which bounds of groups hold for a node and all its jobs together: it makes no groups of its own."""
    bounds = {name: value for name, value in _bounds(_text(Path(f"/proc/{pid}/cgroup")), root).items() if value}
    version = "v2" if (root / "cgroup.controllers").exists() else "v1" if root.is_dir() else "none"
    for_each = "for each job there are rlimits, and a look at its processes five times a second"
    if not bounds:
        advice = "MemoryMax= and TasksMax= of a unit, or a container's limits, bound all jobs together"
        return Finding("cgroups", "ok", f"{version}, nothing bounded: {advice}; {for_each}")
    said = ", ".join(f"{name} {value}" for name, value in bounds.items())
    return Finding("cgroups", "ok", f"{version}, the node with all its jobs: {said}; {for_each}")


def _bounds(groups: str, root: Path) -> dict[str, str]:
    """Give the lowest bound of memory and processes on the way from a group to the root."""
    memory, pids = [], []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            own, names = root / path.lstrip("/"), ("memory.max", "pids.max")
        elif controllers in ("memory", "pids"):
            own, names = root / controllers / path.lstrip("/"), ("memory.limit_in_bytes", "pids.max")
        else:
            continue
        for folder in (own, *own.parents):
            if not folder.is_relative_to(root):
                break
            memory += _number(folder / names[0])
            pids += _number(folder / names[1])
    return {
        "memory": f"{min(memory) / 2**20:,.0f} MiB" if memory else "",
        "processes": f"{min(pids):,}" if pids else "",
    }


def _number(file: Path) -> list[int]:
    text = _text(file).strip()
    return [int(text)] if text.isdigit() and int(text) < _UNBOUND else []


def _namespaces() -> Finding:
    allowed = [name for name, flag in _NAMESPACES.items() if _may_unshare(flag)]
    refused = [name for name in _NAMESPACES if name not in allowed]
    can = f"{', '.join(allowed) or 'none'} can be made" + (f", {', '.join(refused)} cannot" if refused else "")
    return Finding("namespaces", "ok", f"{can}; a node uses none: jobs share its user, files and network")


def _may_unshare(flag: int) -> bool:
    """Try it in a child, which it would change."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if ctypes.CDLL(None).unshare(flag) == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _filters(pid: int, whose: str) -> Finding:
    status = dict(line.split(":\t", 1) for line in _text(Path(f"/proc/{pid}/status")).splitlines() if ":\t" in line)
    said = [
        {"0": "no filter of system calls", "1": "strict seccomp", "2": "system calls are filtered"}.get(
            status.get("Seccomp", ""), "whether system calls are filtered is not said"
        ),
        "new privileges are barred" if status.get("NoNewPrivs") == "1" else "new privileges can be had (setuid)",
    ]
    is_mighty = int(status.get("CapEff", "0"), 16) != 0
    if is_mighty:
        said.append("it has capabilities of root, and so have its jobs; run it as a user of its own")
    return Finding("privileges", "warn" if is_mighty else "ok", f"{whose}: {', '.join(said)}")


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
