"""TLS as the section `[rpc]` asks for it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from remoterun.errors import Unavailable
from remoterun.tls import ServerTls

if TYPE_CHECKING:
    from remoterun_rpc import RpcSettings


def server_tls(settings: RpcSettings) -> ServerTls | None:
    """Give the TLS that the settings ask for, None for plain TCP.

    A caller may show a certificate of `client_ca`, which is checked; one that shows none needs a token.

    Raises:
        Unavailable: a file is missing or cannot be used.
    """
    if settings.certificates and not settings.client_ca:
        raise Unavailable("[rpc] certificates needs client_ca, the PEM file of the authority that they are of")
    return ServerTls.asked_for(
        "rpc", settings.cert, settings.key, settings.client_ca, callers=ssl.VerifyMode.CERT_OPTIONAL
    )
