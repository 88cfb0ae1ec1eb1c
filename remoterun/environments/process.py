"""Run the process that builds an environment, and hear what it reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable

import msgspec

from remoterun.environments.folder import EnvironmentFolder
from remoterun.environments.needs import Needs, base_python
from remoterun.environments.plan import Built, Failed, Phase, Plan, Report
from remoterun.environments.uv import NoUv, find_uv
from remoterun.workers import system

_decoder = msgspec.json.Decoder(Report)
_SWEEPS, _SWEEP_EVERY = 100, 0.02  # looks for orphans, and seconds between two; a killed process ends at once
_LONGEST_SAID = 2000  # characters of a traceback of its own


async def build(
    needs: Needs,
    folder: EnvironmentFolder,
    timeout: float,
    on_phase: Callable[[Phase], None],
    *,
    only_resolve: bool = False,
) -> str | None:
    """Build an environment, or find out whether that could be done; give the reason why not, or None.

    Parameters:
        timeout: seconds; 0: no limit.
        on_phase: hears how far it is.
    """
    try:
        plan = _plan(needs, folder, only_resolve)
    except NoUv as error:
        return str(error)
    try:
        async with asyncio.timeout(timeout or None):
            return await _run(plan, on_phase)
    except TimeoutError:
        return f"building its environment took longer than {timeout:g} s (environments.timeout)"


def _plan(needs: Needs, folder: EnvironmentFolder, only_resolve: bool) -> Plan:
    return Plan(
        folder=str(folder.path),
        key=needs.key,
        script=needs.script,
        block=needs.block,
        requires_python=needs.requires_python,
        lock=needs.lock,
        python=base_python(),
        uv=find_uv(),
        parent=os.getpid(),
        only_resolve=only_resolve,
    )


async def _run(plan: Plan, on_phase: Callable[[Phase], None]) -> str | None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "remoterun.environments.builder"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write(msgspec.json.encode(plan))
        process.stdin.close()
        last = await _last_report(process.stdout, on_phase)
        said = (await process.stderr.read()).decode(errors="replace")
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await _end_orphans(process.pid)
    if isinstance(last, Built):
        return None
    if isinstance(last, Failed):
        return last.reason
    return f"the process that builds it ended with exit code {process.returncode}: {said[-_LONGEST_SAID:].strip()}"


async def _end_orphans(leader: int) -> None:
    """Kill and reap what a build left to us, a subreaper: uv, where its parent was killed, and what uv had started."""
    for _ in range(_SWEEPS):
        if not _kill_orphans(leader):
            return
        await asyncio.sleep(_SWEEP_EVERY)


def _kill_orphans(leader: int) -> int:
    """Kill our children in a session, reap those that have ended, and give how many there were."""
    orphans = [pid for pid in system.children(os.getpid()) if system.session(pid) == leader]
    for pid in orphans:
        system.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return len(orphans)


async def _last_report(stream: asyncio.StreamReader, on_phase: Callable[[Phase], None]) -> Report | None:
    last: Report | None = None
    async for line in stream:
        last = _decoder.decode(line)
        if isinstance(last, Phase):
            on_phase(last)
    return last
