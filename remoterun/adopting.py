"""Listening sockets that whoever started this process has opened for it: `fd:3`, or by name, `fd:http`.

systemd says how many there are and what they are called in LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID; see
sd_listen_fds(3). Only the process that they are meant for takes them, and no child of it inherits them.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, MutableMapping

from remoterun.errors import Unavailable

_PREFIX = "fd:"
_FIRST = 3  # the first descriptor that systemd hands over
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_UNNAMED = "unknown"  # systemd's own word for a descriptor without a name

# Descriptors belong to a process, and so does what they are called: there is one such table.
_handed: dict[str, tuple[int, ...]] = {}
_adopted: set[int] = set()


def take_over(environ: MutableMapping[str, str]) -> None:
    """Note which descriptors were handed over, and keep them and the variables about them from children."""
    said = {name: environ.pop(name, "") for name in _VARIABLES}
    _handed.clear()
    _handed.update(_named(said) if said["LISTEN_PID"] == str(os.getpid()) else {})
    for fds in _handed.values():
        for fd in fds:
            os.set_inheritable(fd, False)


def left_over() -> list[str]:
    """Give the names of sockets that were handed over and that nobody has adopted: who calls there waits in vain."""
    return [name for name, fds in _handed.items() if not _adopted.issuperset(fds)]


def is_handed(address: str) -> bool:
    """Tell whether an address of a setting is a socket that is handed over."""
    return address.startswith(_PREFIX)


def adopt(address: str, section: str) -> list[socket.socket]:
    """Give the listening sockets of an address: one for a number, all that have the name for a name.

    Parameters:
        section: of the configuration, which a text about a failure names.

    Raises:
        Unavailable: it was not handed over, or does not listen.
    """
    word = address.removeprefix(_PREFIX)
    where = f"[{section}] listen: {address}"
    if word.isascii() and word.isdigit():
        return [_listening(int(word), where)]
    if word not in _handed:
        names = ", ".join(sorted(_handed)) or "none"
        raise Unavailable(f"{where} was not handed over; there are {names} (FileDescriptorName= in a .socket unit)")
    return [_listening(fd, where) for fd in _handed[word]]


def _named(said: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    count = int(said["LISTEN_FDS"]) if said["LISTEN_FDS"].isdigit() else 0
    names = said["LISTEN_FDNAMES"].split(":") if said["LISTEN_FDNAMES"] else []
    found: dict[str, tuple[int, ...]] = {}
    for at in range(count):
        name = names[at] if at < len(names) else _UNNAMED
        found[name] = (*found.get(name, ()), _FIRST + at)
    return found


def _listening(fd: int, where: str) -> socket.socket:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise ValueError("it is no socket")
        adopted = socket.socket(fileno=fd)
        is_listening = adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except (ValueError, OverflowError, OSError) as error:
        raise Unavailable(f"{where} was not handed over: {error}") from error
    if not is_listening:
        adopted.close()
        raise Unavailable(f"{where} is a socket that does not listen")
    _adopted.add(fd)
    adopted.set_inheritable(False)
    adopted.setblocking(False)
    return adopted
