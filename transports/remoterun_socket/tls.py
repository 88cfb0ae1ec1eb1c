"""TLS on both sides."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from remoterun.errors import Unavailable
from remoterun.transport import Target

if TYPE_CHECKING:
    from remoterun_socket import SocketSettings


def server_context(settings: SocketSettings) -> ssl.SSLContext | None:
    """Give the context that the settings ask for, None for plain TCP.

    Raises:
        Unavailable: a file is missing or cannot be used.
    """
    if not settings.cert and not settings.key and not settings.client_ca:
        return None
    if not settings.cert or not settings.key:
        raise Unavailable("TLS needs both [socket] cert and key, the names of PEM files")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.cert, settings.key)
        if settings.client_ca:
            context.load_verify_locations(settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # an SSLError is one
        raise Unavailable(f"[socket] cert, key or client_ca cannot be used: {error}") from error
    return context


def client_context(target: Target) -> ssl.SSLContext:
    """Give a context that checks the node's certificate and name.

    The options `cert` and `key` name the PEM files that a node with `client_ca` asks for.

    Raises:
        Unavailable: a file is missing or cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
        if "cert" in target.options:
            context.load_cert_chain(target.options["cert"], target.options.get("key"))
    except OSError as error:
        raise Unavailable(f"the certificates cannot be used: {error}") from error
    return context
