"""Whom a client certificate stands for; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def principal_of(certificate: Mapping[str, Any] | None, principals: Mapping[str, str]) -> str | None:
    """Give the principal that a checked certificate stands for, by the first of its names that has one.

    Parameters:
        certificate: as `ssl.SSLSocket.getpeercert` gives it; empty or None where none was shown.
        principals: by names of certificates.
    """
    return next((principals[name] for name in names_in(certificate or {}) if name in principals), None)


def names_in(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Iterate over the names in a certificate: its common names, then its subject's alternative names."""
    for part in certificate.get("subject", ()):
        yield from (value for kind, value in part if kind == "commonName")
    yield from (value for _, value in certificate.get("subjectAltName", ()))
