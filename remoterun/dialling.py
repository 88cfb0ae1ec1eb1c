"""Connecting to a node over TCP or TLS, for client halves that speak on a blocking socket."""

from __future__ import annotations

import socket

from remoterun.transport import Target


def dial(host: str, port: int, target: Target, *, tls: bool) -> socket.socket:
    """Connect to a node.

    Parameters:
        target: says how long that may take, and whom to trust.

    Raises:
        OSError: nothing answers there, or its certificate is not to be trusted.
        Unavailable: a certificate's file is missing or cannot be used.
    """
    secure = None
    if tls:
        from remoterun.tls import client_context  # here, because `ssl` is slow to import

        secure = client_context(target)
    connected = socket.create_connection((host, port), target.timeout)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a job may take days: find out that the node died
    if secure is None:
        return connected
    try:
        return secure.wrap_socket(connected, server_hostname=host)
    except BaseException:
        connected.close()
        raise
