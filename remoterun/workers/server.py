"""A fork server as the node holds it: it is started, asked for workers, and heard about their ends."""

from __future__ import annotations

import array
import asyncio
import contextlib
import itertools
import json
import logging
import os
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from remoterun.workers import system
from remoterun.workers.interface import Program
from remoterun.workers.readers import Readers
from remoterun.workers.worker import Worker

logger = logging.getLogger(__name__)

_FORKSERVER = Path(__file__).with_name("forkserver.py")
_LONGEST_MESSAGE = 65536
_FORK_AGAIN = 0.2  # seconds after which a fork that failed is tried again
_NOBODY_WAITS = 2.0  # seconds after which a zombie is nobody's: what we start ourselves, we wait for
_ORPHAN_SWEEPS = 100  # a tree that is killed from its root down has its orphans fall to us, level by level
_numbers = itertools.count(1)
_MOST_COMPILED = 500  # versions of scripts that a server holds compiled
_FDS = 4  # control, stdout, stderr, progress


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How fork servers are started.

    `ahead` workers wait forked; `inherited` descriptors are held as long as the server lives (the node's lock).
    """

    python: str
    folder: Path
    environment: dict[str, str]
    ahead: int
    inherited: tuple[int, ...] = ()


class Kind(NamedTuple):
    """What all workers of a fork server have in common.

    `python` is empty for the node's own interpreter; `paths` are searched after all that is installed.
    """

    python: str
    paths: tuple[str, ...]
    preload: tuple[str, ...]


PLAIN = Kind("", (), ())
"""What most scripts need."""


def kind_of(program: Program) -> Kind:
    """Give the kind of fork server that a program's workers come from."""
    return Kind(program.python, program.paths, program.preload)


class ForkServer:
    """One fork server process, for all scripts that share an interpreter and its preloaded modules.

    Parameters:
        kind: the interpreter and the modules.
        readers: reads what its workers say.
        on_exit: called with a worker, its exit code and what it left, once its process has ended.
        on_death: called with this server and the workers that it had, once it is gone.
    """

    def __init__(
        self,
        options: ServerOptions,
        kind: Kind,
        readers: Readers,
        on_exit: Callable[[Worker, int, int], None],
        on_death: Callable[[ForkServer, list[Worker]], None],
    ) -> None:
        self.kind = kind
        self.preload_errors: dict[str, str] = {}
        self.has_forked = False
        self.used_at = 0.0
        self._options = options
        self._readers = readers
        self._on_exit = on_exit
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._workers: dict[int, Worker] = {}
        self._ready: deque[Worker] = deque()
        self._asking: deque[Callable[[Worker], None]] = deque()
        self._ordered = 0
        self._compiled: set[str] = set()  # versions
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        argument = {
            "socket": theirs.fileno(),
            "folder": str(options.folder),
            "preload": list(kind.preload),
            "paths": list(kind.paths),
            "inherited": list(options.inherited),
            "number": next(_numbers),
        }
        self._argument = json.dumps(argument)  # it tells its processes from those of other servers
        self._process = subprocess.Popen(
            [kind.python or options.python, "-u", "-X", "utf8", str(_FORKSERVER), self._argument],
            pass_fds=(theirs.fileno(), *options.inherited),
            env=_environment(options, kind),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._loop.add_reader(self._socket.fileno(), self._read)
        self._fill()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    @property
    def is_idle(self) -> bool:
        """Whether no worker of it has, or waits for, a job."""
        return not self._asking and len(self._workers) == len(self._ready)

    @property
    def ready(self) -> int:
        """How many workers it has forked ahead."""
        return len(self._ready)

    def take(self, use: Callable[[Worker], None]) -> None:
        """Give a worker to `use`: now where one is ready, else once one is."""
        self.used_at = self._loop.time()
        if self._ready:
            worker = self._ready.popleft()
            self._fill()
            use(worker)
        else:
            self._asking.append(use)
            self._fill()

    def compile(self, program: Program) -> None:
        """Have the server compile a version of a script, once for all workers that it forks from then on."""
        if program.version not in self._compiled and len(self._compiled) < _MOST_COMPILED:
            self._compiled.add(program.version)
            self._send(f"S {json.dumps([str(program.source), str(program.path)])}".encode())

    def terminate(self, worker: Worker) -> None:
        """Ask a worker's processes to end."""
        self._send(f"T {worker.pid}".encode())

    def kill(self, worker: Worker) -> None:
        """Kill a worker's whole tree."""
        self._send(f"K {worker.pid}".encode())

    def _fill(self) -> None:
        missing = self._options.ahead + len(self._asking) - len(self._ready) - self._ordered
        for _ in range(missing):
            if not self._send(b"F"):
                return
            self._ordered += 1

    def _send(self, message: bytes) -> bool:
        try:
            self._socket.send(message)
        except (BlockingIOError, OSError) as error:
            logger.debug("fork server %d: %s", self.pid, error)
            return False
        return True

    def _read(self) -> None:
        for _ in range(64):
            try:
                message, ancillary, _, _ = self._socket.recvmsg(
                    _LONGEST_MESSAGE, socket.CMSG_SPACE(_FDS * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                message, ancillary = b"", []
            if not message:
                self._die()
                return
            self._take(message, _descriptors(ancillary))

    def _take(self, message: bytes, fds: list[int]) -> None:
        kind, _, rest = message.decode(errors="replace").partition(" ")
        if kind == "C":
            self.has_forked = True
            pid, _, folder = rest.partition(" ")
            worker = Worker(int(pid), folder, fds, self._readers)
            self._workers[worker.pid] = worker
            self._ordered -= 1
            if self._asking:
                self._asking.popleft()(worker)
            else:
                self._ready.append(worker)
        elif kind == "X":
            number, code, flags = rest.split()
            ended = self._workers.pop(int(number))
            if ended in self._ready:
                self._ready.remove(ended)
            self._on_exit(ended, int(code), int(flags))
            self._fill()
        elif kind == "N":
            logger.warning("a worker cannot be forked, which is tried again: %s", rest)
            self._ordered -= 1
            self._loop.call_later(_FORK_AGAIN, self._fill)
        elif kind == "P":
            self.preload_errors = json.loads(rest)
            for name, error in self.preload_errors.items():
                logger.warning("preload %s: %s", name, error)

    def _die(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        workers = list(self._workers.values())
        self._workers.clear()
        self._ready.clear()
        self._on_death(self, workers)

    @property
    def asking(self) -> int:
        """How many wait for a worker of it."""
        return len(self._asking)

    def hang_up(self) -> None:
        """Have the server kill what it has, and end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    async def ended(self, timeout: float, workers: Iterable[int] = ()) -> None:
        """Wait for its process to end; after `timeout` seconds kill it. Then kill what it left.

        Parameters:
            workers: processes that it had when it died.
        """
        try:
            await asyncio.to_thread(self._process.wait, timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        await asyncio.to_thread(self._kill_orphans, set(workers))
        if stale := _zombies():
            await asyncio.sleep(_NOBODY_WAITS)
            _reap(stale & _zombies())

    def _kill_orphans(self, known: set[int]) -> None:
        """Kill and reap what a server that died suddenly left to us, a subreaper.

        Its workers died with it (the kernel sees to that); their own children did not.
        """
        for _ in range(_ORPHAN_SWEEPS):
            orphans = [pid for pid in system.children(os.getpid()) if pid in known or self._is_orphan(pid)]
            if not orphans:
                return
            for pid in orphans:
                known.update(system.descendants(pid))
                system.kill_tree(pid)
            _reap(orphans)
            known.difference_update(orphans)

    def _is_orphan(self, pid: int) -> bool:
        """Tell whether a child of ours is what a job of this server left.

        What we start ourselves is in our session until it leads one of its own; what a job starts is in that of
        a worker, or has this server's mark on it: our argument where it was forked, a job's folder else.
        """
        session = system.session(pid)
        if session not in (0, pid, os.getsid(0)):
            return True
        marks = self._argument.encode(), f"{self._options.folder}/{self.pid}-".encode()
        try:
            texts = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return pid != self.pid and any(mark in texts for mark in marks)


def _environment(options: ServerOptions, kind: Kind) -> dict[str, str]:
    """Have programs of an environment found first, as after its activation."""
    if not kind.python:
        return options.environment
    programs = Path(kind.python).parent
    path = f"{programs}{os.pathsep}{options.environment.get('PATH', os.defpath)}"
    return {**options.environment, "PATH": path, "VIRTUAL_ENV": str(programs.parent)}


def _zombies() -> set[int]:
    return {pid for pid in system.children(os.getpid()) if system.is_zombie(pid)}


def _reap(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
