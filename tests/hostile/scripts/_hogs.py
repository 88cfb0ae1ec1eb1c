"""Ways to take more than one's share; each is bounded, so that a limit that fails costs a test and no machine."""

import ctypes
import os
import subprocess
import sys
import threading
import time

MIB = 2**20


def growing() -> None:
    """Take memory bit by bit, up to 1 GiB."""
    held = []
    for _ in range(1024):
        held.append(bytearray(MIB))
        time.sleep(0.001)
    time.sleep(60)


def at_once() -> None:
    """Take 1 GiB in one piece."""
    bytearray(1024 * MIB)
    time.sleep(60)


def many() -> None:
    """Have 40 children that take 8 MiB each."""
    for _ in range(40):
        if os.fork() == 0:
            held = os.urandom(8 * MIB)
            time.sleep(60)
            del held
    time.sleep(60)


def shared() -> None:
    """Take 512 MiB of shared memory."""
    import mmap

    memory = mmap.mmap(-1, 512 * MIB)
    for offset in range(0, 512 * MIB, 4096):
        memory[offset] = 1
    time.sleep(60)


def bomb(most: int = 3000) -> None:
    """Fork, and have each child fork too; at most some thousands."""
    end = time.monotonic() + 20
    counter = os.memfd_create("count")
    while time.monotonic() < end:
        if os.lseek(counter, 1, os.SEEK_CUR) > most:
            time.sleep(20)
            return
        os.fork()


def sessions(most: int = 2000) -> None:
    """Fork children in sessions of their own, one after another."""
    for _ in range(most):
        if os.fork() == 0:
            os.setsid()
            time.sleep(20)
            os._exit(0)
    time.sleep(20)


def threads(most: int = 2000) -> None:
    """Start threads."""
    for _ in range(most):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
    time.sleep(20)


def file_size() -> None:
    """Write a file of 64 MiB."""
    with open("big", "wb") as file:
        for _ in range(64):
            file.write(bytes(MIB))


def open_files() -> None:
    """Open 2,000 files."""
    held = [open("/dev/null") for _ in range(2000)]
    del held


def flood(most: int, both: bool = False) -> None:
    """Write that many bytes to stdout, or to stdout and stderr in turn."""
    piece = b"x" * 65535 + b"\n"
    for number in range(most // len(piece)):
        os.write(1 + (number % 2 if both else 0), piece)


def progress(most: int) -> None:
    """Report progress that often."""
    with open(os.environ["REMOTERUN_PROGRESS"], "w") as pipe:
        for number in range(1, most + 1):
            pipe.write(f'{{"done": {number}, "total": {most}, "message": "step {number}"}}\n')
            if number % 50 == 0:
                pipe.flush()


def progress_garbage() -> None:
    """Write what is no progress: no line ends, no JSON, wrong types."""
    with open(os.environ["REMOTERUN_PROGRESS"], "wb", buffering=0) as pipe:
        for _ in range(200):
            pipe.write(b"\xff" * 4096)
        pipe.write(b'\n{"done": "x"}\n{"done": NaN}\n[]\n{"done": 1e999}\n{"done": 1, "message": "\\ud800"}\n')


def artifacts(most: int) -> None:
    """Leave that many files."""
    folder = os.environ["REMOTERUN_ARTIFACTS"]
    for number in range(most):
        os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY))


def sparse() -> None:
    """Leave a file that claims to be a TiB large."""
    with open(os.environ["REMOTERUN_ARTIFACTS"] + "/sparse", "wb") as file:
        file.truncate(2**40)


def odd_artifacts(outside: str) -> None:
    """Leave links, devices, pipes, sockets and names that are no text, and one file that is one."""
    import socket
    import stat

    os.chdir(os.environ["REMOTERUN_ARTIFACTS"])
    os.symlink(outside, "link")
    os.symlink("/", "root")
    os.symlink("loop", "loop")
    os.mkfifo("pipe")
    os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    socket.socket(socket.AF_UNIX).bind("socket")
    for name in ("two\nlines", "\x1b[31mred", " ", "-rf", "a" * 255):
        open(name, "w").close()
    open(b"\xff\xfe", "w").close()
    os.makedirs("deep/" * 40)
    open("deep/" * 40 + "file", "w").close()
    with open("good.txt", "w") as file:
        file.write("good")


def giant_result() -> str:
    """Return 8 MiB."""
    return "x" * (8 * MIB)


def large_result() -> str:
    """Return nearly as much as may be."""
    return "x" * (4 * MIB - 100)


def nan_result() -> object:
    """Return what is no JSON."""
    return {"value": [1.0, float("nan")]}


def surrogate_result() -> object:
    """Return text that is no Unicode."""
    return {"value": "\ud800"}


def surrogate_key_result() -> object:
    """Return a key that is no Unicode."""
    return {"\ud800": 1}


def deep_result() -> object:
    """Return what contains itself."""
    value: list[object] = []
    value.append(value)
    return value


def _control() -> int:
    """Find the socket to the node."""
    import stat

    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                return int(name)
        except OSError:
            continue
    raise RuntimeError("there is no socket to the node")


def garbage_reply() -> None:
    """Write to the node what is no frame."""
    os.write(_control(), b"\x00\x00\x00\x10" + b"\xff" * 16)
    os.write(_control(), os.urandom(65536))
    time.sleep(0.3)


def giant_claim() -> None:
    """Claim a frame of 4 GiB, and one of nearly as much as may be."""
    os.write(_control(), b"\xff\xff\xff\xff" + bytes(1000))
    time.sleep(0.3)


def endless_frame() -> None:
    """Claim the largest frame, and send most of it."""
    fd = _control()
    os.write(fd, (64 * MIB).to_bytes(4, "big"))
    for _ in range(62):
        rest = memoryview(bytes(MIB))
        while rest:
            rest = rest[os.write(fd, rest) :]
    time.sleep(0.3)


def empty_frames() -> None:
    """Send a million frames of no bytes."""
    for _ in range(64):
        rest = memoryview(bytes(4 * 16384))
        while rest:
            rest = rest[os.write(_control(), rest) :]


def closed_control() -> None:
    """Close the socket to the node."""
    os.close(_control())


def shut_control() -> None:
    """Close the socket to the node, and stay."""
    os.close(_control())
    time.sleep(600)


def forged_reply() -> None:
    """Send the node a result of one's own, then another."""
    body = b'R\x00"forged"'
    os.write(_control(), len(body).to_bytes(4, "big") + body)


def exit_at_once() -> None:
    """End without a word."""
    os._exit(7)


def killed() -> None:
    """Be killed."""
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def leak_thread() -> None:
    """Leave a thread."""
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def leak_child() -> None:
    """Leave a child."""
    subprocess.Popen(["sleep", "600"])


def leak_folder() -> None:
    """Leave the process elsewhere."""
    os.chdir("/")


def leak_environment() -> None:
    """Leave a variable, and change one."""
    os.environ["LEFT"] = "behind"
    os.environ["PATH"] = "/nowhere"


def leak_closed_stdout() -> None:
    """Leave stdout closed."""
    os.close(1)


def leak_other_stdout() -> None:
    """Leave stdout somewhere else."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def leak_python_stdout() -> None:
    """Leave sys.stdout closed."""
    sys.stdout.close()


def leak_signals() -> None:
    """Leave other handlers of signals."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def leak_alarm() -> None:
    """Leave an alarm that will ring."""
    import signal

    signal.alarm(1)


def leak_umask() -> None:
    """Leave another mask for new files."""
    os.umask(0o777)


def look() -> dict[str, object]:
    """Say in what state the process is."""
    import signal

    mask = os.umask(0o77)
    os.umask(mask)
    print("seen", flush=True)
    return {
        "pid": os.getpid(),
        "threads": threading.active_count(),
        "cwd": os.path.basename(os.getcwd()),
        "left": os.environ.get("LEFT"),
        "path": os.environ.get("PATH") != "/nowhere",
        "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0],
        "mask": mask != 0o777,
    }
