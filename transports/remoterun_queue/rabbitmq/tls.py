"""TLS to a broker, from both halves."""

from __future__ import annotations

import ssl

from remoterun.errors import Unavailable
from remoterun_queue.rabbitmq.address import Address


def context_for(address: Address, ca: str | None, cert: str | None) -> ssl.SSLContext | None:
    """Give a context that checks the broker's certificate and name; None for `amqp://`.

    Parameters:
        ca: PEM file of the authority to trust instead of the system's.
        cert: PEM file of the certificate to show, with its key.

    Raises:
        Unavailable: a file is missing or cannot be used.
    """
    if not address.is_secure:
        return None
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert)
    except OSError as error:  # an SSLError is one
        raise Unavailable(f"the certificates for {address} cannot be used: {error}") from error
    return context
