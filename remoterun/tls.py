"""TLS on both sides, for transports whose wire is a stream."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from remoterun.errors import Unavailable
from remoterun.transport import Target


class ServerTls:
    """A server's certificate, and the context that shows it.

    Parameters:
        section: of the configuration, which the texts of errors name.
        cert: PEM file of the certificate and its chain.
        key: PEM file of its key; empty: it is in the file `cert`.
        client_ca: PEM file of the authority whose certificates callers may show, or must; empty: none is asked for.
        callers: whether they may or must.
        alpn: names of protocols that are offered.

    Raises:
        Unavailable: a file is missing or cannot be used.
    """

    def __init__(
        self,
        section: str,
        cert: str,
        key: str = "",
        client_ca: str = "",
        *,
        callers: ssl.VerifyMode = ssl.CERT_REQUIRED,
        alpn: Sequence[str] = (),
    ) -> None:
        self._section = section
        self._cert = cert
        self._key = key
        self.context = self._make()
        if alpn:
            self.context.set_alpn_protocols([*alpn])
        if client_ca:
            self._check_file(client_ca)
            try:
                self.context.load_verify_locations(client_ca)
            except OSError as error:  # an SSLError is one
                raise Unavailable(f"[{section}] client_ca {client_ca} cannot be used: {error}") from error
            self.context.verify_mode = callers

    @classmethod
    def asked_for(
        cls, section: str, cert: str, key: str, client_ca: str, *, callers: ssl.VerifyMode = ssl.CERT_REQUIRED
    ) -> ServerTls | None:
        """Give what a section asks for that names cert and key as two files; None where it names neither.

        Raises:
            Unavailable: it names one without the other; a file is missing or cannot be used.
        """
        if not cert and not key and not client_ca:
            return None
        if not cert or not key:
            raise Unavailable(f"TLS needs both [{section}] cert and key, the names of PEM files")
        return cls(section, cert, key, client_ca, callers=callers)

    def renew(self) -> None:
        """Show the certificate that the files hold now to whoever connects from here on.

        Raises:
            Unavailable: a file is missing or cannot be used; the certificate stays as it was.
        """
        self._make()  # a context is broken by a key that is not the certificate's: only what works gets into ours
        self._load(self.context)

    def _make(self) -> ssl.SSLContext:
        for name in filter(None, (self._cert, self._key)):
            self._check_file(name)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._cert, self._key or None)
        except OSError as error:
            raise Unavailable(f"[{self._section}] cert {self._cert} cannot be used: {error}") from error

    def _check_file(self, name: str) -> None:
        if not Path(name).is_file():
            raise Unavailable(f"[{self._section}]: there is no file {name}; set cert and key to PEM files")


def client_context(target: Target) -> ssl.SSLContext:
    """Give a context that checks the node's certificate and name.

    The options `cert` and `key` name the PEM files of the certificate that this caller shows.

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
