"""What a script gets on its standard input.

A job's stdin travels with its request, so it is read to its end before the job starts. That is right for a
file, for `/dev/null`, and for a pipe that is being written. A pipe or socket that stays open and silent is
what a command gets from `ssh` without a terminal, from supervisors and from many a parent process: waiting
for it would hang, and going on without it would run a slow producer's job on empty input. So after a few
seconds without a byte the call is refused, before anything ran, and the text says how to be plain about it.
"""

from __future__ import annotations

import os
import select
import stat

from remoterun.cli.outs import is_terminal
from remoterun.errors import Invalid, TooLarge

PATIENCE = 3.0  # seconds for a first byte, or the end
LARGEST = 64 * 2**20  # bytes held here; the node's own limit (1 MiB by default) is the one that matters


def read_stdin(wanted: bool | None, descriptor: int = 0) -> bytes | None:
    """Read standard input to its end, unless it is a terminal or closed.

    Parameters:
        wanted: True waits for as long as it takes, on a terminal too; False never reads; None decides by what it is.

    Raises:
        Invalid: it is open, and nothing comes.
        TooLarge: there is more than can be sent.
    """
    if wanted is False or not _is_open(descriptor):
        return None
    if wanted is None:
        if is_terminal(descriptor):
            return None
        if _may_stay_silent(descriptor) and not select.select([descriptor], [], [], PATIENCE)[0]:
            raise Invalid(
                "standard input is open and nothing comes from it: "
                "add --no-stdin (or </dev/null) to run without it, or --stdin to wait for its end"
            )
    return _read_all(descriptor) or None


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _may_stay_silent(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _read_all(descriptor: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := _read(descriptor):
        size += len(chunk)
        if size > LARGEST:
            raise TooLarge(
                f"standard input is larger than {LARGEST // 2**20} MiB; put the data where the script can fetch it"
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 2**16)
    except BlockingIOError:  # a parent left it non-blocking
        select.select([descriptor], [], [])
        return os.read(descriptor, 2**16)
    except OSError as error:
        raise Invalid(f"standard input cannot be read: {error.strerror}; add --no-stdin to run without it") from error
