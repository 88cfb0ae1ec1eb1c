"""Trees of processes that do not want to end; each process notes its pid."""

import os
import signal
import subprocess
import sys
import time

FOREVER = 600


def _note(pids: str) -> None:
    descriptor = os.open(pids, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    os.close(descriptor)


def _child(pids: str) -> bool:
    if os.fork():
        return False
    _note(pids)
    return True


def plain(pids: str) -> None:
    """Have three children in the same group."""
    for _ in range(3):
        if _child(pids):
            time.sleep(FOREVER)


def session(pids: str) -> None:
    """Have a child in a session of its own."""
    if _child(pids):
        os.setsid()
        time.sleep(FOREVER)


def daemon(pids: str) -> None:
    """Fork twice, with a session between, and have the middle one end."""
    if _child(pids):
        os.setsid()
        if _child(pids):
            time.sleep(FOREVER)
        os._exit(0)
    os.wait()


def deaf(pids: str) -> None:
    """Ignore SIGTERM, all of the family."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if _child(pids):
        time.sleep(FOREVER)


def pipes(pids: str) -> None:
    """Have a grandchild of another program hold stdout and stderr."""
    command = f"echo $$ >> {pids}; sleep {FOREVER} & echo $! >> {pids}; exec sleep {FOREVER}"
    subprocess.Popen(["setsid", "sh", "-c", command])


def respawning(pids: str) -> None:
    """Have a child that starts another whenever its own one dies."""
    if _child(pids):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            if _child(pids):
                os.setsid()
                time.sleep(FOREVER)
            os.wait()


def chain(pids: str) -> None:
    """Be a process that forks itself and ends, on and on."""
    if _child(pids):
        os.setsid()
        for _ in range(2000):
            if os.fork():
                os._exit(0)
            time.sleep(0.002)
        time.sleep(FOREVER)


def stopped(pids: str) -> None:
    """Stop (SIGSTOP) oneself, and a child."""
    if _child(pids):
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(FOREVER)
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)


def bare(pids: str) -> None:
    """Have a daemon with an empty environment, which cannot be known by it."""
    command = f"echo $$ >> {pids}; exec sleep {FOREVER}"
    subprocess.Popen(["setsid", "sh", "-c", command], env={}, close_fds=True)


def writing(pids: str) -> None:
    """Have a child that goes on making files in the job's folder."""
    if _child(pids):
        os.setsid()
        for number in range(200_000):
            open(f"file-{number}", "w").close()


KINDS = (plain, session, daemon, deaf, pipes, respawning, chain, stopped, bare, writing)


def grow(kind: str, pids: str, ends: bool) -> None:
    """Start a tree, and wait for the end of time, unless the main process is to end by itself."""
    _note(pids)
    globals()[kind](pids)
    time.sleep(0.05)
    print("ready", flush=True)
    sys.stdout.flush()
    if not ends:
        while True:
            time.sleep(FOREVER)
