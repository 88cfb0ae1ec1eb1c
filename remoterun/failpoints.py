"""Named places where a test may kill the process, make the disk fail or hold it up.

`REMOTERUN_FAILPOINTS` sets them, as `name=action[@hits]`, separated by commas:
`store.before_commit=kill@3,store.begin=error:ENOSPC@2+`. Actions are `kill` (SIGKILL of this
process), `error:ERRNO` (an OSError) and `sleep:seconds`. `@3` means the third hit alone, `@2+` the
second and all after it; without it, every hit. Unset, a hit costs one look into an empty dictionary.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from dataclasses import dataclass

VARIABLE = "REMOTERUN_FAILPOINTS"

NAMES = frozenset(
    {
        "store.begin",  # before a group's transaction
        "store.before_commit",  # everything is written, nothing is committed
        "store.after_commit",  # the group is on disk, nobody has been told
        "store.read",  # before each query
        "store.copy",  # before each step of a copy
        "uploads.write",  # before a piece of a file that a caller sends along
        "uploads.kept",  # the files of a call are on disk with their job, which is not recorded yet
        "dispatcher.admitted",  # a job is on disk, its caller does not know yet
        "dispatcher.before_start",  # `running` is on disk, the script has not started
        "dispatcher.started",  # a worker has the job
        "dispatcher.before_end",  # the script has ended, its end is not on disk
        "dispatcher.after_end",  # the end is on disk, nobody has been told
    }
)

_SETTING = re.compile(
    r"(?P<name>[a-z_.]+)=(?P<action>kill|error:[A-Z0-9]+|sleep:[0-9.]+)(?:@(?P<hit>[0-9]+)(?P<on>\+)?)?"
)


@dataclass(slots=True)
class _Failpoint:
    action: str
    argument: str
    first: int
    last: float
    hits: int = 0


_active: dict[str, _Failpoint] = {}
_lock = threading.Lock()  # hits come from several threads


def hit(name: str) -> None:
    """Do what is set for this failpoint; mostly nothing.

    Raises:
        OSError: the failpoint is set to `error`.
    """
    if _active:
        _act(name)


def configure(setting: str) -> None:
    """Set the failpoints anew from the form of `REMOTERUN_FAILPOINTS`; an empty text clears them.

    Raises:
        ValueError: the text has another form or names an unknown failpoint.
    """
    parsed = dict(_parse(item.strip()) for item in setting.split(",") if item.strip())
    with _lock:
        _active.clear()
        _active.update(parsed)


def _parse(item: str) -> tuple[str, _Failpoint]:
    match = _SETTING.fullmatch(item)
    if match is None:
        raise ValueError(f"{VARIABLE}: {item!r} is not of the form name=kill|error:ERRNO|sleep:seconds[@hit[+]]")
    if match["name"] not in NAMES:
        raise ValueError(f"{VARIABLE}: there is no failpoint {match['name']!r}; there are {', '.join(sorted(NAMES))}")
    action, _, argument = match["action"].partition(":")
    if action == "error" and not hasattr(errno, argument):
        raise ValueError(f"{VARIABLE}: {argument!r} is no name of an error")
    if match["hit"] is None:
        return match["name"], _Failpoint(action, argument, 1, float("inf"))
    first = int(match["hit"])
    return match["name"], _Failpoint(action, argument, first, float("inf") if match["on"] else first)


def _act(name: str) -> None:
    with _lock:
        point = _active.get(name)
        if point is None:
            return
        point.hits += 1
        if not point.first <= point.hits <= point.last:
            return
    if point.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif point.action == "sleep":
        time.sleep(float(point.argument))
    else:
        number: int = getattr(errno, point.argument)
        raise OSError(number, f"{os.strerror(number)} (failpoint {name})")


configure(os.environ.get(VARIABLE, ""))
