"""Who is at the other end of a connection, as far as the kernel says."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from remoterun.service import Peer

_UCRED = struct.Struct("3i")  # pid, uid, gid; see unix(7), SO_PEERCRED


def unix_peer(transport: Any) -> Peer | None:
    """Ask the kernel who is at the other end of a Unix socket; None for other sockets and systems."""
    connected = transport.get_extra_info("socket")
    if connected is None or connected.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    pid, uid, gid = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(uid=uid, gid=gid, pid=pid)


def is_own_user(peer: Peer | None) -> bool:
    """Tell whether the other end runs as this process does, or as root."""
    return peer is not None and peer.uid in (0, os.geteuid())


def peer_name(transport: Any, peer: Peer | None) -> str:
    """Name the other end for records."""
    if peer is not None:
        return f"uid {peer.uid}, pid {peer.pid}"
    name = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) and len(name) >= 2 else ""
