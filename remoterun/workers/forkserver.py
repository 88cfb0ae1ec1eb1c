"""The fork server: a ready interpreter that forks a worker in about a millisecond.

It runs as a file, in the environment of the scripts it serves, with the standard library only and a single
thread (a fork after threads have started is undefined). It keeps children forked ahead: each has its folder,
its pipes and its control socket, and waits for a job. Only it reaps them, so no exit code is stolen. It is a
subreaper: a process that its children leave behind falls to it, and since each worker is a subreaper too, a
child that it did not fork is what an *ended* job left: it is killed. When its node goes away it kills
everything and ends.

Messages (SOCK_SEQPACKET), from the node: `F` fork one more; `T pid` SIGTERM to a worker's group; `K pid` kill
its tree; `S json` compile a version of a script, [the file to execute, the path that it is known by]. To the node:
`C pid folder` with the descriptors [control, stdout, stderr, progress]; `X pid status flags`, a worker ended, flags
as in `_leavings`; `N reason`, no worker could be forked now; `P json`, what could not be preloaded.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import socket
import stat
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING or __name__ != "__main__":
    from remoterun.workers import child, system
else:
    # Our own folder must not stand on the path of scripts, nor our modules under names of theirs.
    _here = sys.path.pop(0)
    import importlib.util

    def _load(name):
        spec = importlib.util.spec_from_file_location(f"_remoterun_{name}", f"{_here}/{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    system = _load("system")
    child = _load("child")

# Numbers, and the function in C below `signal.signal`, which makes enums: each page of memory that a child writes to,
# be it a counter of references, is copied.
_set_handler = sys.modules["_signal"].signal
_SIGCHLD, _SIGINT, _SIG_DFL = map(int, (signal.SIGCHLD, signal.SIGINT, signal.SIG_DFL))

LARGEST_COMPILED = 2**16  # bytes of a script
STRAY_GRACE = 0.2  # seconds that what an ended job left may still write
NOTHING_LEFT = 0
LEFT_ARTIFACTS = 1
LEFT_RESULT = 2
LEFT_FILES = 4  # the folder is not as it was, and the node removes it


class ForkServer:
    """Fork workers, reap them, kill what they leave.

    Parameters:
        node: socket to the node.
        folder: where the workers' folders are made.
    """

    def __init__(self, node: socket.socket, folder: str) -> None:
        self.node = node
        self.folder = folder
        self.workers: dict[int, str] = {}  # pid → its folder
        self.strays: dict[int, float] = {}  # pid → when to kill it
        self.spare: list[str] = []  # folders that their jobs left as they had found them
        self.count = 0
        self.wakeup, self.wakeup_end = socket.socketpair()
        for end in (self.wakeup, self.wakeup_end):
            end.setblocking(False)

    def serve(self) -> None:
        """Work until the node is gone, then leave nothing behind."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the node's to handle
        signal.set_wakeup_fd(self.wakeup_end.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self.node, select.POLLIN)
        poll.register(self.wakeup, select.POLLIN)
        try:
            while True:
                for fd, _ in poll.poll(self._timeout()):
                    if fd == self.wakeup.fileno():
                        self._drain_wakeup()
                    elif not self._obey(self.node.recv(65536)):
                        return
                self._reap()
                self._kill_strays()
        except (BrokenPipeError, ConnectionError):
            return
        finally:
            self._end_all()

    def _timeout(self) -> float | None:
        if not self.strays:
            return None
        return max(0.0, min(self.strays.values()) - time.monotonic()) * 1000 + 1

    def _drain_wakeup(self) -> None:
        try:
            while self.wakeup.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _obey(self, message: bytes) -> bool:
        if not message:
            return False
        if message == b"F":
            try:
                self.fork()
            except OSError as error:  # a full disk, or no more processes: those that there are go on
                self.node.send(f"N {error}".encode()[:1000])
            return True
        if message[:1] == b"S":
            _compile(*json.loads(message[2:]))
            return True
        command, _, number = message.partition(b" ")
        pid = int(number)
        if pid in self.workers:
            if command == b"T":
                try:
                    os.killpg(pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
            else:
                system.kill_tree(pid)
        return True

    def fork(self) -> None:
        """Fork a worker ahead and tell the node."""
        folder = self._folder()
        opened: list[int] = []
        try:
            opened.append(os.open(f"{folder}/progress", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            for pair in (os.pipe, os.pipe, _socket_pair):
                opened.extend(pair())
            pid = os.fork()
        except OSError:
            for fd in opened:
                os.close(fd)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        progress, out, out_end, err, err_end, control, control_end = opened
        if pid == 0:
            code = 255
            try:
                signal.set_wakeup_fd(-1)
                _set_handler(_SIGCHLD, _SIG_DFL)
                _set_handler(_SIGINT, signal.default_int_handler)
                for end in (self.node, self.wakeup, self.wakeup_end):
                    os.close(end.detach())
                for fd in (out, err, progress, control, *INHERITED):
                    os.close(fd)
                code = child.work(control_end, out_end, err_end, folder)
            except BaseException:  # the worker's own defect: it must never return into the server's loop
                import traceback

                traceback.print_exc()
            finally:
                os._exit(code)
        self.workers[pid] = folder
        for fd in (out_end, err_end, control_end):
            os.close(fd)
        ours = (control, out, err, progress)
        try:
            for fd in ours[:3]:
                os.set_blocking(fd, False)
            socket.send_fds(self.node, [f"C {pid} {folder}".encode()], ours)
        finally:
            for fd in ours:
                os.close(fd)

    def _folder(self) -> str:
        """Give a fresh folder: one whose job left nothing, else a new one."""
        while self.spare and not self.strays:  # one of these may still write into the folder of its job
            folder = self.spare.pop()
            if os.listdir(f"{folder}/work") or os.listdir(f"{folder}/artifacts"):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            os.mkfifo(f"{folder}/progress", 0o600)
            return folder
        self.count += 1
        folder = f"{self.folder}/{os.getpid()}-{self.count}"
        try:
            child.make_folder(folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def _reap(self) -> None:
        reaped = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            reaped = True  # whoever it was: what it left has fallen to us
            self.strays.pop(pid, None)
            folder = self.workers.pop(pid, None)
            if folder is not None:
                code = os.waitstatus_to_exitcode(status)
                left = _leavings(folder)
                if left == NOTHING_LEFT:
                    self.spare.append(folder)
                self.node.send(f"X {pid} {code} {left}".encode())
        if reaped or self.strays:
            self._find_strays(time.monotonic() + STRAY_GRACE)

    def _find_strays(self, deadline: float) -> None:
        found = [pid for pid in system.children(os.getpid()) if pid not in self.workers]
        self.strays = {pid: self.strays.get(pid, deadline) for pid in found}

    def _kill_strays(self) -> None:
        now = time.monotonic()
        for pid, deadline in self.strays.items():
            if deadline <= now:
                system.kill_tree(pid)

    def _end_all(self) -> None:
        signal.set_wakeup_fd(-1)
        while True:
            pids = system.children(os.getpid())
            if not pids:
                return
            for pid in pids:
                system.kill_tree(pid)
            for pid in pids:
                try:
                    os.waitpid(pid, 0)
                except ChildProcessError:
                    pass


def _socket_pair() -> tuple[int, int]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


INHERITED: tuple[int, ...] = ()
"""Descriptors that the node gave to this process (its lock) and that no worker may hold."""


def _leavings(folder: str) -> int:
    """Say what a worker left in its folder; where that is nothing, the folder is fit for the next one.

    Making and removing folders costs more than looking at them. The progress pipe is made anew: what a job has
    written there must not be read as the next one's.
    """
    try:
        if os.path.lexists(f"{folder}/result"):
            return LEFT_RESULT | LEFT_ARTIFACTS | LEFT_FILES
        if os.listdir(f"{folder}/artifacts"):
            return LEFT_ARTIFACTS | LEFT_FILES
        parts = sorted(os.listdir(folder))
        if os.listdir(f"{folder}/work") or parts != ["artifacts", "progress", "work"]:
            return LEFT_FILES
        if any(stat.S_IMODE(os.stat(path).st_mode) != 0o700 for path in (f"{folder}/artifacts", f"{folder}/work")):
            return LEFT_FILES
        os.unlink(f"{folder}/progress")
    except OSError:
        return LEFT_FILES | (LEFT_ARTIFACTS if os.path.isdir(f"{folder}/artifacts") else 0)
    return NOTHING_LEFT


def _compile(source: str, path: str) -> None:
    """Compile a script into what is forked, unless it is so large that others would wait for it."""
    try:
        if os.path.getsize(source) <= LARGEST_COMPILED:
            with open(source, "rb") as file:
                child.compiled[source] = compile(file.read(), path, "exec", dont_inherit=True)
    except Exception:  # the worker will say what is wrong with it, to its caller
        pass


def _preload(names: list[str]) -> dict[str, str]:
    """Import modules once for all children; give the errors by name."""
    errors = {}
    for name in names:
        try:
            __import__(name)
        except BaseException as error:  # a module's import may do anything; the server must come up
            errors[name] = f"{type(error).__name__}: {error}"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        errors["threads"] = f"preloading started {threads - 1} threads, which do not exist in a forked process"
    return errors


def _take_first_steps() -> None:
    """Do once what costs a process most the first time, so that no child does it anew.

    A process's first `compile` makes the types of all nodes of Python's syntax tree: 1.2 ms of the 1.6 that a
    small script takes.
    """
    compile("def main(): pass", "<first>", "exec")
    child.values.encode({"first": [1, 1.5, "é", None]})
    json.loads('{"first": [1, 1.5, null]}')
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None:  # preloaded, to convert parameters: most of it is imported with the first type
        try:
            pydantic.TypeAdapter(int)
        except Exception:  # a version without it: each call that needs it says so
            pass


def main() -> None:
    """Serve as the node's command line says: a JSON object."""
    global INHERITED
    options = json.loads(sys.argv[1])
    sys.argv[1:] = []
    INHERITED = tuple(options["inherited"])
    node = socket.socket(fileno=options["socket"])
    os.set_inheritable(node.fileno(), False)
    for fd in INHERITED:
        os.set_inheritable(fd, False)
    system.become_subreaper()
    sys.path += options["paths"]
    errors = _preload(options["preload"])
    if errors:
        node.send(b"P " + json.dumps(errors).encode()[:60000])
    _take_first_steps()
    gc.collect()
    gc.freeze()  # children touch none of what is here, so that its pages stay shared
    ForkServer(node, options["folder"]).serve()


if __name__ == "__main__":
    main()
