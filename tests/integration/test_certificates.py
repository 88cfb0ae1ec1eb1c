"""A certificate that was renewed is shown after SIGHUP, with no connection lost."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.service import Token
from remoterun.testing import RunningNode, running_node
from remoterun.transport import Target
from tests.certificates import Authority, Files

_PATIENCE = 30.0
SECTIONS = {"tls": "socket", "rpycs": "rpc", "https": "http"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def files(authority: Authority) -> Files:
    return authority.issue_for_node()


@pytest.fixture
def node(tmp_path: Path, files: Files) -> Iterator[RunningNode]:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "one.py").write_text("def main() -> int:\n    return 1\n")
    settings: dict[str, Any] = {section: {"cert": files.cert, "key": files.key} for section in SECTIONS.values()}
    with running_node(scripts, **settings) as running:
        yield running


def shown(node: RunningNode, scheme: str) -> int:
    """Give the serial number of the certificate that a new connection is shown."""
    place = urlsplit(node.urls[scheme])
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((place.hostname, place.port), _PATIENCE) as plain,
        context.wrap_socket(plain) as wire,
    ):
        certificate = wire.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def serial(files: Files) -> int:
    return x509.load_pem_x509_certificate(Path(files.cert).read_bytes()).serial_number


def client(node: RunningNode, scheme: str, authority: Authority) -> Client:
    return Client(*open_session(Target(node.urls[scheme], ca_file=authority.file), Token(node.token)))


def eventually(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize("scheme", SECTIONS)
def test_a_renewed_certificate_is_shown_after_a_reload(
    node: RunningNode, authority: Authority, files: Files, scheme: str
) -> None:
    first = serial(files)
    with client(node, scheme, authority) as caller:
        assert caller.run("one") == 1
        assert shown(node, scheme) == first
        authority.issue_for_node()  # into the same files
        assert shown(node, scheme) == first
        os.kill(node.pid, signal.SIGHUP)
        eventually(lambda: shown(node, scheme) == serial(files) != first, "the new one is shown")
        assert caller.run("one") == 1  # on the connection that there was
    with client(node, scheme, authority) as caller:
        assert caller.run("one") == 1


def test_a_certificate_that_cannot_be_used_leaves_the_old_one(
    node: RunningNode, authority: Authority, files: Files, tmp_path: Path
) -> None:
    first = serial(files)
    other = authority.issue("other")
    shutil.copy(other.key, files.key)  # and the certificate stays: they are no pair
    os.kill(node.pid, signal.SIGHUP)
    eventually(lambda: "not reloaded" in node.log(), "the log says so")
    for scheme, section in SECTIONS.items():
        assert f"[{section}] cert {files.cert} cannot be used" in node.log()
        assert shown(node, scheme) == first
        with client(node, scheme, authority) as caller:
            assert caller.run("one") == 1
