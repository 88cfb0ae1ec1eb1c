"""The server half: where it listens, TLS, and how it stops."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remoterun.errors import Unavailable
from remoterun.transport import ServerContext
from remoterun_http import HttpSettings, transport
from tests.integration.http_fake import TOKEN, FakeService, Node, serving

AUTH = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Make a certificate for 127.0.0.1 that is its own authority; give its file and that of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "remoterun test")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return str(folder / "cert.pem"), str(folder / "key.pem")


def context(tmp_path: Path, *, insecure_listen: bool = False) -> ServerContext:
    return ServerContext(
        service=FakeService(),
        data=tmp_path,
        max_request=2**20,
        auth_timeout=10.0,
        insecure_listen=insecure_listen,
        is_ready=lambda: True,
        addresses=dict,
    )


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with serving(tmp_path) as running:
        yield running


async def test_takes_a_free_port_and_says_which(node: Node) -> None:
    host, port = node.place
    assert host == "127.0.0.1"
    assert port > 0


async def test_a_port_in_use_is_named(tmp_path: Path, node: Node) -> None:
    _, port = node.place
    server = transport.server(context(tmp_path), HttpSettings(listen=("127.0.0.1:0", f"127.0.0.1:{port}")))
    with pytest.raises(OSError, match=rf"^\[Errno \d+\] 127.0.0.1:{port} is in use; stop what holds it, or set"):
        await server.start()
    await server.stop(1.0)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "node.example:0"])
async def test_clear_text_beyond_loopback_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(Unavailable, match="cert and key"):
        await transport.server(context(tmp_path), HttpSettings(listen=(address,))).start()


async def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    server = transport.server(context(tmp_path, insecure_listen=True), HttpSettings(listen=("192.0.2.1:1",)))
    with pytest.raises(OSError, match=r"192\.0\.2\.1:1 cannot be listened on"):
        await server.start()


@pytest.mark.parametrize("address", ["", "7461", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ":80"])
async def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(Unavailable, match="is no address"):
        await transport.server(context(tmp_path), HttpSettings(listen=(address,))).start()


async def test_a_server_that_is_off_listens_nowhere(tmp_path: Path) -> None:
    server = transport.server(context(tmp_path), HttpSettings(enabled=False))
    assert await server.start() == {}
    await server.stop(1.0)


async def test_serves_tls(tmp_path: Path, certificate: tuple[str, str]) -> None:
    cert, key = certificate
    trusted = ssl.create_default_context(cafile=cert)
    async with serving(tmp_path, cert=cert, key=key) as node:
        assert node.url.startswith("https://127.0.0.1:")
        async with httpx2.AsyncClient(base_url=node.url, headers=AUTH, verify=trusted, trust_env=False) as http:
            assert (await http.post("/run/hello", json={"name": "Ada"})).json() == {"hello": "Ada"}
            large = await http.post("/run/args", content=b"x" * 900_000)
            assert len(large.json()["stdin"]) == 900_000


async def test_a_silent_tls_connection_is_closed(tmp_path: Path, certificate: tuple[str, str]) -> None:
    cert, key = certificate
    async with serving(tmp_path, auth_timeout=0.4, cert=cert, key=key) as node:
        for tls in (None, ssl.create_default_context(cafile=cert)):
            reader, writer = await asyncio.open_connection(*node.place, ssl=tls)
            assert await reader.read() == b""
            writer.close()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"cert": "/nowhere/cert.pem"}, "there is no file /nowhere/cert.pem"),
        ({"key": "/nowhere/key.pem"}, "cert is not"),
        ({"cert": __file__}, "cannot be used"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(Unavailable, match=text):
        await transport.server(context(tmp_path), HttpSettings(listen=("127.0.0.1:0",), **settings)).start()


async def test_stopping_ends_streams_and_waits_and_lets_calls_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        async with httpx2.AsyncClient(base_url=node.url, headers=AUTH, trust_env=False, timeout=None) as http:
            call = asyncio.create_task(http.post("/run/slow"))
            await node.service.started.wait()
            [job_id] = node.service.jobs
            waiting = asyncio.create_task(http.get(f"/jobs/{job_id}?wait=3600"))
            async with http.sse(f"/jobs/{job_id}/events?after=1") as source:
                events = aiter(source)
                assert (await anext(events)).event == "state"
                stopping = asyncio.create_task(node.server.stop(60.0))
                rest = [event.event async for event in events]
            assert rest == ["problem"]
            assert (await waiting).status_code == 503
            node.service.release.set()
            answer = await call
            assert (answer.status_code, answer.json()) == (200, "done")
        await stopping
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(node.place)


async def test_stopping_does_not_wait_longer_than_its_grace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path) as node:
        reader, writer = await asyncio.open_connection(*node.place)
        head = (
            f"POST /run/slow HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n"
        )
        writer.write(head.encode())
        await node.service.started.wait()
        await node.server.stop(0.1)
        assert b"200" not in await reader.read()
        writer.close()
        [job] = node.service.jobs.values()
        assert job.job.state == "running"
    assert TOKEN not in caplog.text
