"""What runs inside a worker: it waits for a job, executes the script, says how it ended.

Standard library only, and little of it: this is the script's own process. A worker runs one job and ends
(`fork`), replaces itself by a fresh interpreter that runs one (`spawn`), or runs one after another (`warm`).
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import gc
import json
import os
import resource
import signal
import socket
import sys
import termios
import threading
import time
import traceback
import types
from typing import Any

if __name__ == "__main__":  # a fresh interpreter, for `spawn`
    sys.path.pop(0)  # our own folder must not stand on the path of scripts
_here = os.path.dirname(os.path.abspath(__file__))


def _sibling(name: str) -> Any:
    """Load a module of our folder without putting the folder on the path of scripts."""
    import importlib.util

    known = sys.modules.get(f"_remoterun_{name}")
    if known is not None:
        return known
    spec = importlib.util.spec_from_file_location(f"_remoterun_{name}", f"{_here}/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


frames = _sibling("frames")
values = _sibling("values")
system = _sibling("system")

MOST_CALLS = 100_000
"""Calls of a warm worker before a fresh one takes its place: glibc's setenv never frees a value, and each job's id
is one (80 bytes measured; at 4,000 calls/s a gigabyte an hour)."""

_RECEIVE = 8192  # bytes: larger than most calls
_decode = json.JSONDecoder().decode

SLOW_CALL = 0.001  # seconds; see SLOW in `frames`

compiled: dict[str, types.CodeType] = {}
"""Scripts that the fork server has compiled, by the file that is executed."""

DEFECT = 255  # exit code of a worker that failed before its script could


def make_folder(folder: str) -> None:
    """Make what a job finds: its working directory, the folder for artifacts, the pipe for progress."""
    os.mkdir(folder, 0o700)
    os.mkdir(f"{folder}/work", 0o700)
    os.mkdir(f"{folder}/artifacts", 0o700)
    os.mkfifo(f"{folder}/progress", 0o600)


def work(control_fd: int, out: int, err: int, folder: str) -> int:
    """Be a worker, in a process just forked: give its exit code."""
    server = os.getppid()
    os.setsid()
    system.die_with_parent()
    if os.getppid() != server:
        return DEFECT
    system.become_subreaper()  # an orphan of the job stays in its tree
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
        if source > 2:
            os.close(source)
    control = _at_three(control_fd)
    gc.enable()
    inbox = Inbox(control)
    received = inbox.first()
    if received is None:
        return 0
    job = _decode(received.decode())
    if job["isolation"] == "spawn":
        return _become_fresh(control, received, folder)
    if job["isolation"] == "warm":
        return WarmWorker(control, inbox, folder).serve(job)
    return run_once(control, job, folder)


def _at_three(fd: int) -> socket.socket:
    """Move the control socket to descriptor 3: a script finds the lowest numbers free, as it would elsewhere."""
    if fd != 3:
        os.dup2(fd, 3, inheritable=False)
        os.close(fd)
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=3)


class Inbox:
    """What the node sends: frames, and with the first one a warm worker's queue of calls."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._calls: socket.socket | None = None
        self._frames = frames.Frames()
        self._bodies: list[bytes] = []

    def first(self) -> bytes | None:
        """Give the first frame's body, waiting for it; None once the node has hung up."""
        data, ancillary, _, _ = self._control.recvmsg(_RECEIVE, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        for _, _, sent in ancillary:
            self._calls = socket.socket(fileno=int.from_bytes(sent, sys.byteorder))
        self._bodies = self._frames.feed(data)
        return self.next() if data else None

    def next(self) -> bytes | None:
        """Give the next frame's body, waiting for it; None once the node has hung up."""
        while not self._bodies:
            data = self._control.recv(max(_RECEIVE, min(self._frames.missing, 2**20)))
            if not data:
                return None
            self._bodies = self._frames.feed(data)
        return self._bodies.pop(0)

    def next_call(self) -> bytes | None:
        """Take the next call from the queue, waiting for it; None once the node has hung up."""
        assert self._calls is not None
        received = self._calls.recv(frames.LARGEST_QUEUED)
        if received == frames.LARGE:
            return self.next()
        return received or None


def _become_fresh(control: socket.socket, received: bytes, folder: str) -> int:
    """Replace this process by a fresh interpreter that runs the job."""
    job_file = os.memfd_create("job")
    os.write(job_file, received)
    os.lseek(job_file, 0, os.SEEK_SET)
    for fd in (job_file, control.fileno()):
        os.set_inheritable(fd, True)
    options = [sys.executable, "-u", "-X", "utf8", os.path.abspath(__file__)]
    os.execv(sys.executable, [*options, str(job_file), str(control.fileno()), folder])


def run_once(control: socket.socket, job: dict[str, Any], folder: str) -> int:
    """Run one job in this process and give its exit code."""
    _set_limits(job["limits"])
    _set_environment(job, folder)
    _set_stdin(job.get("stdin"))
    os.chdir(f"{folder}/work")
    pid = os.getpid()
    reply = Call(job, folder).run()
    _finish_threads()
    _flush()
    if os.getpid() != pid:  # a process that the script forked, and let run to the script's end
        return reply.exit_code
    control.sendall(frames.frame(reply.frame()))
    return reply.exit_code


def _finish_threads() -> None:
    """Do what an interpreter does at its end: wait for threads, run what `atexit` holds."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or replaced by the script: nothing of ours is in it
            continue


def _set_limits(limits: dict[str, int]) -> None:
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: limits["files"]}
    if limits["file_size"]:
        wanted[resource.RLIMIT_FSIZE] = limits["file_size"]
    if limits["memory"]:
        # The node watches what the tree really uses; this stops one process from running ahead of it.
        wanted[resource.RLIMIT_DATA] = limits["memory"] + limits["memory"] // 4 + 64 * 2**20
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bounded, bounded))
    try:
        file = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(file, b"500")  # the kernel's own killer takes jobs before the node
    except OSError:
        pass
    os.close(file)


def _set_environment(job: dict[str, Any], folder: str) -> None:
    os.environ.update(job["env"])
    place = os.fsencode(folder)
    _set_variable(b"REMOTERUN_ARTIFACTS", place + b"/artifacts")
    _set_variable(b"REMOTERUN_RESULT", place + b"/result")
    _set_variable(b"REMOTERUN_PROGRESS", place + b"/progress")
    _set_job(job)


def _set_job(job: dict[str, Any]) -> None:
    _set_variable(b"REMOTERUN_JOB", job["job"].encode())
    _set_variable(b"REMOTERUN_ATTEMPT", b"%d" % job["attempt"])
    trace = job.get("trace")
    if trace is not None:
        _set_variable(b"TRACEPARENT", trace.encode())
    elif b"TRACEPARENT" in _environment:
        del os.environ["TRACEPARENT"]


_environment = os.environ._data  # type: ignore[attr-defined]
"""What `environ` holds, as it is held: coding and decoding texts would cost a warm call several microseconds."""


def _set_variable(name: bytes, value: bytes) -> None:
    if _environment.get(name) != value:
        _environment[name] = value
        os.putenv(name, value)


def _set_stdin(encoded: str | None) -> None:
    """Have file descriptor 0 and `sys.stdin` give these bytes, from a file in memory."""
    if encoded is None:
        return
    import base64

    file = os.memfd_create("stdin")
    with open(file, "wb", closefd=False) as writer:
        writer.write(base64.b64decode(encoded))
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    os.close(file)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)


class Reply:
    """How a call ended."""

    __slots__ = ("exit_code", "flags", "kind", "payload")

    def __init__(self, kind: int, payload: bytes, exit_code: int) -> None:
        self.kind = kind
        self.payload = payload
        self.exit_code = exit_code
        self.flags = 0

    def frame(self, left: str = "") -> bytes:
        """Give the body of the frame that tells the node."""
        head = bytes((self.kind, self.flags))
        return head + (left.encode() + b"\n" if left else b"") + self.payload


class Call:
    """One call of a script, or many of the same one in a warm worker.

    Parameters:
        job: the frame's JSON: what to execute, and with what.
        folder: the job's own.
    """

    def __init__(self, job: dict[str, Any], folder: str) -> None:
        self.job = job
        self.folder = folder
        self.main: Any = None  # once the module is loaded, for this call and the next ones
        self.state: Any = None  # of the process, once the module is loaded

    def run(self) -> Reply:
        """Execute the script and say how it ended; it never raises."""
        job = self.job
        try:
            if job["entry"] is None:
                sys.argv = [job["path"], *job["args"]]
                self._execute("__main__")
                return Reply(frames.RESULT, b"", 0)
            if self.main is None:
                sys.argv = [job["path"], *job["args"]]
                self.main = self._execute(_module_name(job["name"]))[job["entry"]]
                self.state = _process_state() if job["isolation"] == "warm" else None
            return Reply(frames.RESULT, self._call_main(job), 0)
        except SystemExit as error:
            return _exit_reply(error)
        except values.InvalidParameters as error:
            return _error_reply("invalid", str(error), None, 1, error.fields)
        except values.Unencodable as error:
            return _error_reply("ResultError", str(error), None, 1)
        except BaseException as error:
            return _exception_reply(error)

    def _call_main(self, job: dict[str, Any]) -> bytes:
        params = job["params"]
        if job["files"]:
            params = _sibling("handed").hand_over(job["files"], params, self.folder)
        if not job["native"]:
            params = values.converted(self.main, params)
        result = self.main(**params)
        if isinstance(result, types.CoroutineType):
            import asyncio

            result = asyncio.run(result)
        encoded: bytes = values.encode(result, self._exhibit)
        if len(encoded) > job["limits"]["result"]:
            raise values.Unencodable(
                f"the result is {len(encoded)} bytes of JSON, more than limits.result = {job['limits']['result']};"
                " leave a file as an artifact instead"
            )
        return encoded

    def _exhibit(self, value: Any, path: str) -> Any:
        return _sibling("exhibits").exhibit(value, path, f"{self.folder}/artifacts")

    def _execute(self, name: str) -> dict[str, Any]:
        job = self.job
        sys.path.insert(0, os.path.dirname(job["path"]))
        module = types.ModuleType(name)
        module.__file__ = job["path"]
        sys.modules[name] = module
        if name != "__main__":
            sys.modules["__main__"] = module
        code = compiled.get(job["source"])
        if code is None:
            with open(job["source"], "rb") as file:
                code = compile(file.read(), job["path"], "exec", dont_inherit=True)
        exec(code, module.__dict__)
        return module.__dict__


def _module_name(name: str) -> str:
    """Give the name of a function script's module: no guard runs, and no other module is hidden by it."""
    return "remoterun_script_" + "".join(c if c.isalnum() else "_" for c in name)


def _exit_reply(error: SystemExit) -> Reply:
    code = error.code
    if code is None:
        return Reply(frames.RESULT, b"", 0)
    if isinstance(code, int):
        if code & 0xFF == 0:
            return Reply(frames.RESULT, b"", 0)
        return _error_reply("SystemExit", f"exit code {code & 0xFF}", None, code & 0xFF)
    print(code, file=sys.stderr)
    return _error_reply("SystemExit", str(code), None, 1)


def _exception_reply(error: BaseException) -> Reply:
    # The first frames are ours; what the author sees begins with the script's own.
    frames_of_script = error.__traceback__
    while frames_of_script is not None and os.path.dirname(frames_of_script.tb_frame.f_code.co_filename) == _here:
        frames_of_script = frames_of_script.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, frames_of_script))
    except Exception:  # an exception whose own __str__ raises
        text = f"{type(error).__name__}\n"
    try:
        sys.stderr.write(text)
    except Exception:
        os.write(2, text.encode(errors="backslashreplace"))
    try:
        message = str(error)
    except Exception:
        message = "(its text cannot be had)"
    code = 130 if isinstance(error, KeyboardInterrupt) else 1
    return _error_reply(type(error).__name__, message, text, code)


def _error_reply(
    kind: str, message: str, trace: str | None, code: int, fields: list[dict[str, str]] | None = None
) -> Reply:
    body = {
        "type": kind[:200],
        "message": message[:8192],
        "traceback": None if trace is None else trace[-65536:],
        "fields": fields or [],
        "exit_code": code,
    }
    return Reply(frames.ERROR, json.dumps(body).encode(), code)


class WarmWorker:
    """Run one call after another of the same script, as long as each leaves the process as it was.

    A call's output may still stand in the pipes when it has ended. The node is told so with the reply, and the next
    call begins once the node has said that it has read it: whose output it is can then be known (see `worker`).

    Parameters:
        control: socket to the node.
        inbox: what the node sends.
        folder: the worker's folder; what a call leaves in it is moved aside for the node to take.
    """

    def __init__(self, control: socket.socket, inbox: Inbox, folder: str) -> None:
        self.control = control
        self.inbox = inbox
        self.folder = folder
        self.work = f"{folder}/work"
        self.left = 0
        self.calls = 0
        self.has_stdin = False
        # Held open, so that the system says whether a call's progress has been read.
        self.progress = os.open(f"{folder}/progress", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self, job: dict[str, Any]) -> int:
        """Serve calls until the node hangs up or a call left the process unclean."""
        _set_limits(job["limits"])
        _set_environment(job, self.folder)
        os.chdir(self.work)
        call = Call(job, self.folder)
        self.marks = self._marks()
        pid = os.getpid()
        while True:
            self.calls += 1
            self._set_stdin(job.get("stdin"))
            began = time.perf_counter()
            reply = call.run()
            if time.perf_counter() - began > SLOW_CALL:
                reply.flags |= frames.SLOW
            _flush()
            if os.getpid() != pid:  # a process that the script forked, and let run to the call's end
                return reply.exit_code
            if job["files"]:
                _sibling("handed").take_back(self.folder)
            left = self._left_files()
            reply.flags |= self._flags(call.state) | (frames.FILES if left else 0)
            if self.calls >= MOST_CALLS:  # it is time
                reply.flags |= frames.UNCLEAN
            self.control.sendall(frames.frame(reply.frame(left)))
            if reply.flags & frames.UNCLEAN:
                return 0
            if reply.flags & frames.OUTPUT and self.inbox.next() is None:
                return 0
            received = self.inbox.next_call()
            if received is None:
                return 0
            job = call.job = {**job, "stdin": None, "trace": None, "files": [], **_decode(received.decode())}
            _set_job(job)

    def _set_stdin(self, encoded: str | None) -> None:
        if encoded is None and not self.has_stdin:
            return
        self.has_stdin = encoded is not None
        _set_stdin(encoded or "")

    def _has_unread(self) -> bool:
        return _pending(1) or _pending(2) or _pending(self.progress)

    def _marks(self) -> tuple[int, int]:
        return os.stat(self.work).st_mtime_ns, os.stat(f"{self.folder}/artifacts").st_mtime_ns

    def _left_files(self) -> str:
        """Move what the call left in its folders aside, and give the name of the folder that holds it."""
        try:
            if self._marks() == self.marks:
                return ""
        except OSError:
            pass  # the call removed its folders: they are made again
        self.left += 1
        name = f"left-{self.left}"
        os.mkdir(f"{self.folder}/{name}", 0o700)
        for part in ("work", "artifacts"):
            try:
                os.rename(f"{self.folder}/{part}", f"{self.folder}/{name}/{part}")
            except FileNotFoundError:
                pass
            os.mkdir(f"{self.folder}/{part}", 0o700)
        moved = os.getcwd() != f"{self.folder}/{name}/work"
        if not moved:
            os.chdir(self.work)
        self.marks = self._marks()
        return name

    def _flags(self, state: Any) -> int:
        flags = 0
        if self._has_unread():
            flags |= frames.OUTPUT
        try:
            is_clean = (
                threading.active_count() == 1
                and os.getcwd() == self.work
                and _has_no_children()
                and _process_state() == state  # None where the script could not even be loaded
            )
        except Exception:  # a closed or replaced stream, a folder that is gone
            is_clean = False
        return flags if is_clean else flags | frames.UNCLEAN


_OF_EACH_CALL = (b"REMOTERUN_JOB", b"REMOTERUN_ATTEMPT", b"TRACEPARENT")
# Numbers, and the function in C below `signal.getsignal`, which makes an enum of each answer: a microsecond apiece.
_get_handler = sys.modules["_signal"].getsignal
_HANDLED = (
    *map(int, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)),
    *map(int, (signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2)),
)


def _process_state() -> tuple[object, ...]:
    """Give what one call may change in a process for the next ones, apart from the state of the author's modules."""
    environment = {**_environment}
    for name in _OF_EACH_CALL:
        environment.pop(name, None)
    mask = os.umask(0o077)
    os.umask(mask)
    return (
        environment,
        mask,
        signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0),
        [*map(_get_handler, _HANDLED)],
        [(id(stream), stream.closed) for stream in (sys.stdout, sys.stderr)],
        [(status.st_dev, status.st_ino) for status in map(os.fstat, (1, 2))],
    )


def _pending(fd: int) -> bool:
    """Tell whether bytes stand in a pipe that nobody has read yet."""
    try:
        return fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0"
    except OSError as error:
        return error.errno != errno.EBADF


def _has_no_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def main() -> None:
    """Run the job that a fresh interpreter was started for."""
    job_fd, control_fd, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with open(job_fd, "rb") as file:
        job = json.load(file)
    sys.path += job["paths"]
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    code = run_once(control, job, folder)
    os._exit(code)


if __name__ == "__main__":
    main()
