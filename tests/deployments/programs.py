"""The programs of a front: real ones, started in the foreground, each with its own log, ended by their own ids."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGTERM, Signals
from typing import Any

import httpx2

PATIENCE = 60.0  # seconds; a loaded machine
_LOOK_EVERY = 0.02


class Program:
    """A program in the foreground.

    Parameters:
        command: what to run.
        log: takes its stdout and stderr, after what is there already.
        env: variables besides PATH, HOME and LANG, which alone it inherits.
        cwd: its working directory; by default the log's folder.
    """

    def __init__(
        self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.log = log
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**inherited, "LANG": "C.UTF-8", **(env or {})},
                cwd=cwd or log.parent,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def text(self) -> str:
        """Give the end of its log."""
        return self.log.read_text(errors="replace")[-5000:]

    def signal(self, number: Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop(self, number: Signals = SIGTERM) -> None:
        """Ask it to end, and wait until it has.

        Raises:
            AssertionError: it did not, and was killed.
        """
        if self.has_ended:
            return
        self.signal(number)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.wait(PATIENCE)
            raise AssertionError(f"{self._process.args!r} did not end: {self.text()}") from error


def eventually(condition: Callable[[], Any], what: str, programs: Sequence[Program] = ()) -> Any:
    """Wait until something is true, and give it.

    Parameters:
        programs: must run meanwhile.

    Raises:
        AssertionError: it is not true in time, or one of them ended; the text holds their logs.
    """
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        for program in programs:
            assert not program.has_ended, f"a program ended before this: {what}\n{program.text()}"
        logs = "\n".join(program.text() for program in programs)
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}\n{logs}"
        time.sleep(_LOOK_EVERY)
    return found


def answers(url: str, verify: Any = True) -> bool:
    """Whether an HTTP server answers /livez at a URL."""
    try:
        return httpx2.get(f"{url}/livez", verify=verify, timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def children(pid: int, word: str) -> set[int]:
    """Give the ids of a process's children whose command line holds a word."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and word.encode() in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
        except OSError:
            continue  # it has ended
    return found
