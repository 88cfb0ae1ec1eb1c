"""The transports: certificates that end, brokers that are not there, addresses that somebody else has."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from remoterun.addresses import join, split
from remoterun.adopting import is_handed
from remoterun.cli.doctor.finding import Finding
from remoterun.errors import Invalid

_CERTIFICATES = ("cert", "ca", "client_ca")  # settings that name PEM files
_SOON = timedelta(days=30)
_PATIENCE = 3.0  # seconds for a broker


def look(sections: Mapping[str, Any], *, is_running: bool) -> Iterator[Finding]:
    """Look at every transport that is on.

    Parameters:
        sections: the transports' settings, by name.
        is_running: whether a node runs, which then has its addresses.
    """
    for name, section in sections.items():
        if not section.enabled:
            continue
        yield from _certificates(name, section)
        if url := getattr(section, "url", ""):
            yield check_broker(name, url)
        if not is_running:
            for address in _addresses(section):
                yield from check_address(name, address)


def _certificates(name: str, section: Any) -> Iterator[Finding]:
    for setting in _CERTIFICATES:
        if file := getattr(section, setting, ""):
            yield check_certificate(f"{name}.{setting}", Path(file))


def check_certificate(what: str, file: Path, now: datetime | None = None) -> Finding:
    """Say how long the certificates in a PEM file are good for."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no PEM file of certificates"
        return Finding(what, "fail", f"{file} cannot be read: {reason}", f"it cannot be read: {reason}")
    end = min(certificate.not_valid_after_utc for certificate in found)
    left = end - (now or datetime.now(UTC))
    if left <= timedelta():
        return Finding(what, "fail", f"expired on {end:%Y-%m-%d}: renew it, and restart the node")
    if left <= _SOON:
        return Finding(what, "warn", f"expires on {end:%Y-%m-%d}, in {left.days} days: renew it, and restart the node")
    return Finding(what, "ok", f"good until {end:%Y-%m-%d}")


def check_broker(name: str, url: str) -> Finding:
    """Say whether somebody answers where a broker should be; what it says to a password is seen by the node alone."""
    parts = urlsplit(url)
    default = {"amqp": 5672, "amqps": 5671, "stomp": 61613, "stomp+ssl": 61614}.get(parts.scheme, 0)
    what = f"{name} broker"
    try:
        host, port = parts.hostname or "", parts.port or default
        with socket.create_connection((host, port), _PATIENCE):
            return Finding(what, "ok", f"{join(host, port)} answers", "it answers")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it does not answer"
        where = f"{parts.hostname}:{parts.port or default}"
        return Finding(
            what, "warn", f"{where}: {reason}; start it, or set [{name}] url", f"cannot be reached: {reason}"
        )


def _addresses(section: Any) -> Iterator[str]:
    for field in msgspec.structs.fields(section):
        if field.name in ("listen", "pull"):
            yield from getattr(section, field.name)


def check_address(name: str, address: str) -> Iterator[Finding]:
    """Say whether an address can be had; nothing where a supervisor or the kernel chooses it."""
    if is_handed(address):
        return
    try:
        host, port = split(address, 0)
    except Invalid as error:
        yield Finding(f"{name} address", "fail", error.message, "it is no address")
        return
    if port == 0:
        return
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            reason = error.strerror or str(error)
            yield Finding(
                f"{name} address", "fail", f"{address}: {reason}; stop what holds it, or set [{name}] listen", reason
            )
        else:
            yield Finding(f"{name} address", "ok", f"{address} is free", f"port {port} is free")
