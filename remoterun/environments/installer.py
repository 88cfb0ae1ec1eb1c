"""uv, run for one plan: it finds a Python, resolves, installs; what it refuses becomes a reason."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from remoterun.environments.equipment import TYPED_MODULES
from remoterun.environments.needs import OLDEST_PYTHON
from remoterun.environments.plan import Phase, Plan, Report
from remoterun.environments.pythons import find_python
from remoterun.environments.reason import explain
from remoterun.environments.uv import uv_environment
from remoterun.workers import system

STEPS = 2  # resolving, installing

_RESOLVED = re.compile(rb"^Resolved (\d+) package")
_MOST_SAID = 2**20  # bytes of uv's that are kept

Tell = Callable[[Report], None]


class Unbuildable(Exception):
    """There can be no such environment; the text is the reason."""


class Uv:
    """Runs uv for one plan."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._environment = uv_environment(os.environ, folder)

    def run(
        self, arguments: list[str], *, cwd: Path | None = None, on_line: Callable[[bytes], None] | None = None
    ) -> bytes:
        """Run it and give its stdout.

        Raises:
            Unbuildable: it refused.
        """
        with subprocess.Popen(
            [self._plan.uv, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if on_line is None else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self._environment,
            cwd=cwd,
            preexec_fn=system.die_with_parent,  # this process has one thread, so that it may
        ) as process:
            if on_line is None:
                out, said = process.communicate()
            else:
                out, said = b"", _read_lines(process, on_line)
        if process.returncode != 0:  # nothing else of what it says is to be trusted
            raise Unbuildable(explain(said.decode(errors="replace"), self._plan.script, process.returncode))
        return out

    def choose_python(self) -> str:
        """Give our own interpreter where the script's requires-python allows it, else another one of this machine.

        Raises:
            Unbuildable: there is none.
        """
        plan = self._plan
        found, seen = find_python(plan.requires_python, plan.python, plan.uv, self._environment)
        if found is None:
            raise Unbuildable(
                f"it requires Python {plan.requires_python}, scripts run under {OLDEST_PYTHON} or newer, and this "
                f"machine has {', '.join(seen)}; install one that fits, in the node's PATH or by: uv python install"
            )
        return found

    def sync(self, script: Path, home: Path, tell: Tell) -> None:
        """Install what the script asks for, exactly as its lock file says where there is one."""
        self._environment["VIRTUAL_ENV"] = str(home)

        def look(line: bytes) -> None:
            if found := _RESOLVED.match(line):
                count = int(found[1])
                tell(Phase(1, STEPS, f"installing {count} package{'s' if count != 1 else ''}"))

        locked = ["--locked"] if self._plan.lock is not None else []
        self.run(["sync", "--script", str(script), "--active", *locked], cwd=script.parent, on_line=look)

    def install_typed(self, home: Path, typed: Path) -> None:
        """Install what converts parameters, in our own version, for another Python than ours."""
        pinned = []
        for name in TYPED_MODULES:
            try:
                pinned.append(f"{name}=={version(name)}")
            except PackageNotFoundError:
                continue
        python = str(home / "bin" / "python")
        self.run(["pip", "install", "--quiet", "--python", python, "--target", str(typed), *pinned])


def _read_lines(process: subprocess.Popen[bytes], on_line: Callable[[bytes], None]) -> bytes:
    said = b""
    assert process.stderr is not None
    for line in process.stderr:
        on_line(line)
        if len(said) < _MOST_SAID:
            said += line
    return said
