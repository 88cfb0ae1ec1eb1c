"""Build one environment, in a process of its own: `python -m remoterun.environments.builder`, a plan on stdin.

It writes reports to stdout, a JSON object a line, of which the last says how it went. It builds in a folder aside,
and the environment gets its name only once it is whole and on disk: whenever the process is killed, nothing that
is half built is ever used. It ends with its node, and uv with it.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

import msgspec

from remoterun.environments.equipment import equip, is_our_python
from remoterun.environments.folder import MARKER, EnvironmentFolder, remove
from remoterun.environments.installer import STEPS, Tell, Unbuildable, Uv
from remoterun.environments.plan import Built, Failed, Phase, Plan, Report
from remoterun.workers import system


def build(plan: Plan, tell: Tell) -> None:
    """Build an environment unless it is there.

    Parameters:
        tell: hears how far it is.

    Raises:
        Unbuildable: uv refused; the text is its reason.
        OSError: the folder cannot be written.
    """
    folder = EnvironmentFolder(Path(plan.folder))
    with folder.locked(plan.key, wait=True):
        if folder.is_built(plan.key):
            return
        for scrap in folder.scraps(plan.key):
            remove(scrap)
        place = folder.path / f".part-{plan.key}-{os.getpid()}-{time.monotonic_ns()}"
        try:
            _build_at(place, plan, folder, tell)
        finally:
            remove(place)


def _build_at(place: Path, plan: Plan, folder: EnvironmentFolder, tell: Tell) -> None:
    tell(Phase(0, STEPS, "resolving dependencies"))
    script = _write_script(place / "source", plan)
    home = place / "environment"
    uv = Uv(plan, folder.path)
    uv.run(["venv", "--quiet", "--no-project", "--relocatable", "--python", uv.choose_python(), str(home)])
    uv.sync(script, home, tell)
    equip(home, typed := home / folder.typed(plan.key).relative_to(folder.home(plan.key)))
    if not is_our_python(home):
        uv.install_typed(home, typed)
    marker = {"key": plan.key, "script": plan.script, "built_by": f"uv under Python {platform.python_version()}"}
    (home / MARKER).write_bytes(msgspec.json.encode(marker))
    os.sync()  # its name must not reach the disk before its files do
    if (garbage := folder.set_aside(plan.key)) is not None:
        remove(garbage)
    home.rename(folder.home(plan.key))


def resolve(plan: Plan) -> None:
    """Find out whether an environment could be built, without building it.

    Raises:
        Unbuildable: it could not.
        OSError: the folder cannot be written.
    """
    folder = EnvironmentFolder(Path(plan.folder))
    place = folder.path / f".part-{plan.key}-{os.getpid()}-{time.monotonic_ns()}"
    try:
        script = _write_script(place, plan)
        uv = Uv(plan, folder.path)
        check = ["--check"] if plan.lock is not None else []
        uv.run(["lock", "--script", str(script), "--python", uv.choose_python(), *check], cwd=place)
    finally:
        remove(place)


def _write_script(folder: Path, plan: Plan) -> Path:
    """Write a file that has the block and nothing else, with the lock file beside it."""
    folder.mkdir(parents=True, mode=0o700)
    script = folder / plan.script
    commented = "".join(f"# {line}\n" if line else "#\n" for line in plan.block.split("\n"))
    script.write_text(f"# /// script\n{commented}# ///\n", encoding="utf-8")
    if plan.lock is not None:
        (folder / f"{plan.script}.lock").write_bytes(plan.lock)
    return script


def main() -> int:
    """Do as the plan on stdin says."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    system.die_with_parent()
    if os.getppid() != plan.parent:
        return 1

    def tell(report: Report) -> None:
        os.write(1, msgspec.json.encode(report) + b"\n")

    try:
        if plan.only_resolve:
            resolve(plan)
        else:
            build(plan, tell)
    except Unbuildable as error:
        tell(Failed(str(error)))
    except OSError as error:
        tell(Failed(f"its environment cannot be written: {error}"))
    else:
        tell(Built())
    return 0


if __name__ == "__main__":
    sys.exit(main())
