"""What the hostile tests share: their sizes, a look at processes from outside, raw connections, what was shown."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from remoterun.testing import RunningNode
from tests.processes import lives, parent_of, stat_of

SCRIPTS = Path(__file__).with_name("scripts")
SCALE = float(os.environ.get("REMOTERUN_TEST_SCALE", "1"))  # 1: as CI runs it; more, by hand, for the full sizes
MIB = 2**20

_PATIENCE = 30.0  # seconds that something may take which takes milliseconds on an idle machine
_LOOK_EVERY = 0.02


def sized(count: int) -> int:
    """Give how many of something to do: `count` at scale 1."""
    return max(1, round(count * SCALE))


def eventually(condition: Callable[[], Any], what: str, patience: float = _PATIENCE) -> Any:
    """Wait until a condition gives something true, and give that.

    Raises:
        AssertionError: it did not in time.
    """
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(_LOOK_EVERY)
    return found


def all_pids() -> list[int]:
    """Give every process there is."""
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def children_of(pid: int) -> list[int]:
    """Give the children of a process, zombies among them."""
    return [child for child in all_pids() if parent_of(child) == pid]


def tree_of(pid: int) -> list[int]:
    """Give all descendants of a process."""
    parents = {child: parent_of(child) for child in all_pids()}
    found, level = [], [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found


def zombies_below(pid: int) -> list[int]:
    """Give the processes in a tree that ended and that nobody has reaped."""
    return [child for child in tree_of(pid) if stat_of(child)[:1] == ["Z"]]


def carriers(mark: str) -> list[int]:
    """Give the living processes that have a text in their environment or command line.

    A process that was forked has those of the process that it was forked from.
    """
    found = []
    for pid in all_pids():
        with contextlib.suppress(OSError):
            folder = Path(f"/proc/{pid}")
            texts = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            if mark.encode() in texts and lives(pid):
                found.append(pid)
    return found


def described(pids: list[int]) -> list[str]:
    """Say what processes are: their command lines and the first fields of their states, for a test that failed."""
    texts = []
    for pid in pids:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            texts.append(f"{pid} {stat_of(pid)[:6]} {command}")
    return texts


def run_folder(node: RunningNode) -> str:
    """Give what every process of a node's jobs carries: the folder of its jobs."""
    return f"{node.data}/run/"


def orphans(node: RunningNode) -> list[int]:
    """Give the processes that earlier nodes on this data left; the present one may have died meanwhile, too.

    A process that dies, or that just becomes another program, tells nobody whose it is for a moment: an orphan is
    what is still one when looked at again.
    """
    suspects = {*carriers(run_folder(node))}
    for _ in range(3):
        suspects -= {*carriers(f"{run_folder(node)}{node.pid}")}
        suspects &= {*carriers(run_folder(node))}
        if not suspects:
            break
        time.sleep(_LOOK_EVERY)
    return sorted(suspects)


def fork_servers(node: RunningNode) -> list[int]:
    """Give a node's fork servers."""
    found = []
    for pid in children_of(node.pid):
        with contextlib.suppress(OSError):
            if b"forkserver.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def strays(node: RunningNode) -> list[int]:
    """Give the processes below a node that are neither fork servers nor workers: what no ended job may leave."""
    keepers = {node.pid, *fork_servers(node)}
    found = {*tree_of(node.pid), *carriers(run_folder(node))}
    return [pid for pid in found if parent_of(pid) not in keepers and lives(pid)]


def descriptors(pid: int) -> int:
    """Count the open descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def rss(pid: int) -> int:
    """Give the resident memory of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


class Growth:
    """Samples a process's memory for the time of a `with` block; `most` is by how many bytes it grew at worst."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.before = rss(pid)
        self.most = 0

    def __enter__(self) -> Growth:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            with contextlib.suppress(OSError, AssertionError):
                self.most = max(self.most, rss(self._pid) - self.before)


def is_sound(data: Path) -> bool:
    """Have SQLite check the database of a node that does not run."""
    with contextlib.closing(sqlite3.connect(data / "remoterun.sqlite3")) as database:
        return database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def address(url: str) -> tuple[str, int]:
    """Give the host and port of a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def dial(node: RunningNode, scheme: str) -> socket.socket:
    """Open a bare connection to a node's port."""
    if scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(node.urls["unix"].removeprefix("unix://"))
    else:
        connection = socket.create_connection(address(node.urls[scheme]))
    connection.settimeout(_PATIENCE)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the other side closes, or cuts the connection."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def resp(*words: bytes | str) -> bytes:
    """Write a command as RESP."""
    encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


@contextlib.contextmanager
def in_background(*targets: Callable[[], None]) -> Iterator[None]:
    """Run functions in threads; what one of them raises is raised at the end.

    One that hangs is the time limit's to find, which shows where each thread stands.
    """
    errors: list[BaseException] = []

    def guarded(target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
