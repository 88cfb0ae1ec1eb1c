"""RPC over TLS: whom a certificate stands for, with bare RPyC and with our client half."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rpyc
from cryptography import x509

from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.errors import Forbidden, Unauthenticated, Unavailable
from remoterun.service import Token
from remoterun.testing import NodeDidNotStart, RunningNode, running_node
from remoterun.transport import Target
from remoterun_rpc.certificates import principal_of
from tests.certificates import Authority, Files
from tests.hostile.harness import dial, read_to_end

SCRIPTS = Path(__file__).parents[1] / "contract" / "scripts"


class Place:
    """A node with TLS, and certificates of its authority and of another."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
        self.ca = ours.file
        self.node_files = ours.issue_for_node()
        self.ci = ours.issue("ci.example")
        self.alternative = ours.issue("someone", x509.DNSName("other.example"), x509.DNSName("build.example"))
        self.unknown = ours.issue("unknown.example")
        self.unmapped = ours.issue("ghost.example")
        self.expired = ours.issue("expired", x509.DNSName("ci.example"), expired=True)
        self.foreign = theirs.issue("foreign", x509.DNSName("ci.example"))
        self.node: RunningNode

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "rpc": {
                "cert": self.node_files.cert,
                "key": self.node_files.key,
                "client_ca": self.ca,
                "certificates": {"ci.example": "ci", "build.example": "ci", "ghost.example": "nobody"},
            },
            "principals": {"ci": {"scopes": ["run:hello", "read"]}},
        }

    def connect(self, files: Files | None = None) -> Any:
        host, _, port = self.node.urls["rpycs"].removeprefix("rpycs://").rpartition(":")
        keys = {} if files is None else {"certfile": files.cert, "keyfile": files.key}
        return rpyc.ssl_connect(host, int(port), ca_certs=self.ca, cert_reqs=ssl.CERT_REQUIRED, **keys)

    @contextlib.contextmanager
    def client(self, files: Files | None = None, token: str = "", **changes: Any) -> Iterator[Client]:
        options = {} if files is None else {"cert": files.cert, "key": files.key}
        target = Target(self.node.urls["rpycs"], **{"ca_file": self.ca, "options": options, **changes})
        with Client(*open_session(target, Token(token))) as client:
            yield client


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("tls"))
    with running_node(SCRIPTS, auth_timeout=3, **_dotted(found.settings)) as node:
        found.node = node
        yield found
        assert "Traceback" not in node.log(), node.log()


def _dotted(settings: dict[str, Any]) -> dict[str, Any]:
    """Quote the names of certificates: TOML's keys have no dots of their own."""
    certificates = {json.dumps(name): who for name, who in settings["rpc"]["certificates"].items()}
    return {**settings, "rpc": {**settings["rpc"], "certificates": certificates}}


@pytest.mark.parametrize("kind", ["ci", "alternative"])
def test_a_certificate_stands_for_its_principal(place: Place, kind: str) -> None:
    files = getattr(place, kind)
    with place.connect(files) as connection:
        assert connection.root.login() == "ci"
        assert json.loads(connection.root.run("hello", name="Ada")) == {"hello": "Ada", "times": 1}
        with pytest.raises(PermissionError, match="scope run:nothing"):
            connection.root.run("nothing")
    with place.client(files) as client:
        assert client.session.principal == "ci"
        assert client.run("hello", name="Ada") == {"hello": "Ada", "times": 1}
        job = client.submit("hello", name="Ada")
        assert [event.n for event in job.events()][:2] == [1, 2]
        assert job.refresh().principal == "ci"
        with pytest.raises(Forbidden):
            client.run("nothing")


def test_a_token_does_without_a_certificate_and_beside_one(place: Place) -> None:
    for files in (None, place.unknown, place.ci):
        with place.connect(files) as connection:
            assert connection.root.login(place.node.token) == "first"
            assert connection.root.run("nothing") == "null"
        with place.client(files, place.node.token) as client:
            assert client.session.principal == "first"


@pytest.mark.parametrize("kind", ["none", "unknown", "unmapped"])
def test_a_certificate_that_stands_for_nobody_opens_nothing(place: Place, kind: str) -> None:
    files = getattr(place, kind, None)
    with place.connect(files) as connection:
        told = r"login|no \[principals.nobody\]"
        with pytest.raises(PermissionError, match=told):
            connection.root.login()
        with pytest.raises(PermissionError, match=told):
            connection.root.run("nothing")
    with pytest.raises(Unauthenticated), place.client(files):
        pass


@pytest.mark.parametrize("kind", ["foreign", "expired"])
def test_a_certificate_of_another_authority_or_time_is_turned_away(place: Place, kind: str) -> None:
    files = getattr(place, kind)
    with pytest.raises((EOFError, OSError)), place.connect(files) as connection:
        connection.root.login()
    with pytest.raises(Unavailable), place.client(files):
        pass


def test_who_does_not_shake_hands_is_closed(place: Place) -> None:
    for said in (b"", b"\x16\x03\x01", bytes(5)):
        with dial(place.node, "rpycs") as line:
            line.sendall(said)
            read_to_end(line)


def test_the_nodes_certificate_is_checked(place: Place) -> None:
    unknown = place.client(token=place.node.token, ca_file=None)
    with pytest.raises(Unavailable, match=r"certificate verify failed|self.signed"), unknown:
        pass
    with pytest.raises(Unavailable, match="certificates"), place.client(ca_file=__file__):
        pass
    clear = place.node.urls["rpycs"].replace("rpycs", "rpyc")
    with pytest.raises(Unavailable, match="rpyc://127"):
        open_session(Target(clear, timeout=5), Token(place.node.token))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"certificates": {"x": "y"}}, "client_ca"),
        ({"cert": "none.pem"}, "both"),
        ({"key": "none.pem"}, "both"),
        ({"client_ca": "none.pem"}, "both"),
        ({"cert": "none.pem", "key": "none.pem"}, "there is no file"),
        ({"listen": ["0.0.0.0:0"]}, "insecure_listen"),
        ({"listen": ["nowhere"], "enabled": True}, "nowhere"),
        ({"listen": ["127.0.0.1:x"]}, "no address"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(NodeDidNotStart) as refused, running_node(SCRIPTS, rpc=settings):
        pass
    assert said in refused.value.log


def test_the_first_name_that_has_a_principal_counts() -> None:
    certificate = {
        "subject": ((("organizationName", "org"),), (("commonName", "cn"),)),
        "subjectAltName": (("DNS", "a"), ("email", "b@example"), ("URI", "spiffe://c")),
    }
    assert principal_of(certificate, {"cn": "1", "a": "2"}) == "1"
    assert principal_of(certificate, {"b@example": "2", "spiffe://c": "3"}) == "2"
    assert principal_of(certificate, {"org": "1", "*": "2", "": "3"}) is None
    assert principal_of({}, {"cn": "1"}) is None
    assert principal_of(None, {"cn": "1"}) is None
