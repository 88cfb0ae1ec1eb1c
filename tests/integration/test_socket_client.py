"""Both shapes of the client half, over TCP, TLS and the Unix socket, against the server half."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from remoterun.errors import (
    Busy,
    Conflict,
    Forbidden,
    Internal,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from remoterun.messages import FieldError, JobQuery, JobRequest, OutputEvent
from remoterun.service import AsyncService, AsyncSession, Credential, Mapped, Origin, Peer, ThreadedService, Token
from remoterun.states import State
from remoterun.transport import Target, for_url
from remoterun_socket.aclient import AsyncSocketService
from remoterun_socket.protocol import OK, CommandParser, bulk
from tests.integration.socket_fake import OTHER, TOKEN, FakeService
from tests.integration.socket_node import Node, serving

ORIGIN = Origin("test")
ME = Peer(os.getuid(), os.getgid(), os.getpid())


def blocking(target: Target) -> AsyncService:
    return ThreadedService(for_url(target.url).connect(target))


@pytest.fixture(params=[blocking, AsyncSocketService], ids=["blocking", "asyncio"])
def shape(request: pytest.FixtureRequest) -> Callable[[Target], AsyncService]:
    made: Callable[[Target], AsyncService] = request.param
    return made


@asynccontextmanager
async def session(
    shape: Callable[[Target], AsyncService], url: str, credential: Credential | None = None, **options: Any
) -> AsyncIterator[AsyncSession]:
    service = await asyncio.to_thread(shape, Target(url, **options))
    opened: AsyncSession | None = None
    try:
        opened = await service.authenticate(credential or Token(TOKEN), ORIGIN)
        yield opened
    finally:
        if shape is blocking and opened is not None:
            opened._session.close()  # type: ignore[attr-defined] # the asyncio shape leaves that to the service
        await service.aclose()


async def test_every_operation_crosses_the_wire(tmp_path: Path, shape: Any) -> None:
    async with serving(tmp_path) as node, session(shape, node.url) as caller:
        assert caller.principal == "ada"
        assert (await caller.info()).load.workers == 2
        assert [script.name for script in await caller.list_scripts("hello")] == ["hello"]
        assert (await caller.get_script("echo")).kind == "plain"
        params = {"name": {"nested": [1.5, None, "grüß\u2028\x85"]}}
        job = await caller.run(JobRequest(script="hello", params=params))
        assert job.result == {"hello": params["name"]}
        held = await caller.submit(JobRequest(script="hold", key="k"))
        assert (await caller.submit(JobRequest(script="hold", key="k"))).id == held.id
        assert (await caller.get_job(held.id)).state is State.RUNNING
        assert (await caller.wait(held.id, 0.01)).state is State.RUNNING
        assert (await caller.list_jobs(JobQuery(state=State.RUNNING))).jobs == (held,)
        assert (await caller.cancel(held.id)).state is State.CANCELLED
        assert (await caller.wait(held.id)).state is State.CANCELLED
        again = await caller.rerun(held.id, newest=True)
        assert (again.rerun_of, again.version) == (held.id, "2")
        assert len(await caller.list_refusals(1)) == 1


async def test_events_and_artifacts_cross_the_wire(tmp_path: Path, shape: Any) -> None:
    async with serving(tmp_path) as node, session(shape, node.url) as caller:
        sent = bytes(range(256)) * 2000
        job = await caller.run(JobRequest(script="echo", stdin_base64=sent))
        assert [event async for event in caller.events(job.id)] == node.service.entries[job.id].log
        assert [event.n async for event in caller.events(job.id, after=3)] == [4, 5]
        opened = await caller.open_artifact(job.id, "out/copy.bin")
        assert opened.info == job.artifacts[0]
        assert b"".join([chunk async for chunk in opened.chunks]) == sent


async def test_errors_cross_the_wire_whole(tmp_path: Path, shape: Any) -> None:
    async with (
        serving(tmp_path) as node,
        session(shape, node.url) as caller,
        session(shape, node.url, Token(OTHER)) as other,
    ):
        with pytest.raises(Invalid) as invalid:
            await caller.run(JobRequest(script="hello"))
        assert invalid.value.fields == (FieldError("name", "missing"),)
        with pytest.raises(Busy, match="the queue is full") as busy:
            await caller.submit(JobRequest(script="hello", trace="busy"))
        assert busy.value.retry_after == 1.5
        await caller.submit(JobRequest(script="nothing", key="k"))
        with pytest.raises(Conflict):
            await caller.submit(JobRequest(script="hold", key="k"))
        job = await caller.submit(JobRequest(script="hold"))
        with pytest.raises(Forbidden):
            await other.get_job(job.id)
        with pytest.raises(Forbidden):
            _ = [event async for event in other.events(job.id)]
        for asked in (caller.get_job("x"), caller.open_artifact(job.id, "x"), caller.get_script("x")):
            with pytest.raises(NotFound):
                await asked
        with pytest.raises(TooLarge, match="1048576"):
            await caller.run(JobRequest(script="echo", stdin="x" * 2**21))
        assert (await caller.info()).node == "fake"


async def test_others_calls_go_on_while_one_waits(tmp_path: Path, shape: Any) -> None:
    async with serving(tmp_path) as node, session(shape, node.url) as caller:
        running = asyncio.ensure_future(caller.run(JobRequest(script="hold")))
        job_id = await node.service.started.get()
        follower = caller.events(job_id)
        assert (await anext(follower)).n == 1
        assert (await caller.cancel(job_id)).state is State.CANCELLED
        assert (await running).state is State.CANCELLED
        assert [event.n async for event in follower] == [2]


async def test_an_iterator_that_is_left_early_disturbs_nothing(tmp_path: Path, shape: Any) -> None:
    async with serving(tmp_path) as node, session(shape, node.url) as caller:
        job = await caller.run(JobRequest(script="flood"))
        async for event in caller.events(job.id):
            if isinstance(event, OutputEvent):
                break
        assert (await caller.get_job(job.id)).id == job.id


async def test_a_wrong_or_revoked_token_is_unauthenticated(tmp_path: Path, shape: Any) -> None:
    async with serving(tmp_path) as node:
        for credential in (Token("nonsense"), Token(""), Mapped("ada"), ME):
            with pytest.raises(Unauthenticated):
                async with session(shape, node.url, credential):
                    pass
        async with session(shape, node.url) as caller:
            del node.service.tokens[TOKEN]
            with pytest.raises(Unauthenticated, match="revoked"):
                await caller.info()


async def test_the_unix_socket_proves_its_user(tmp_path: Path, shape: Any) -> None:
    service = FakeService()
    async with serving(tmp_path, service) as node:
        url = node.addresses["unix"][0]
        with pytest.raises(Unauthenticated):
            async with session(shape, url, ME):
                pass
        service.uids.add(os.getuid())
        async with session(shape, url, ME) as caller:
            assert caller.principal == f"uid:{os.getuid()}"
        async with session(shape, url, Token(TOKEN)) as caller:
            assert caller.principal == "ada"


async def test_where_nothing_answers_is_named(tmp_path: Path, shape: Any) -> None:
    async with serving(tmp_path) as node:
        url = node.url
    for address in (url, f"unix://{tmp_path}/nothing.sock"):
        with pytest.raises(Unavailable, match=address):
            async with session(shape, address):
                pass
    with pytest.raises(Invalid, match=r"tcp://127\.0\.0\.1:7460"):
        async with session(shape, "unix://relative"):
            pass


async def test_a_node_that_came_back_is_found_again(tmp_path: Path, shape: Any) -> None:
    async with serving(tmp_path) as node:
        port = node.port
        async with session(shape, node.url) as caller:
            await node.half.stop(0)
            async with serving(tmp_path, listen=(f"127.0.0.1:{port}",)) as again:
                assert (await caller.run(JobRequest(script="nothing"))).state is State.SUCCEEDED
                assert len(again.service.entries) == 1
                await again.half.stop(0)
                with pytest.raises(Unavailable):
                    await caller.info()


@asynccontextmanager
async def listening(
    converse: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
) -> AsyncIterator[str]:
    """Serve by a function, and wait for every conversation to end."""
    ended: list[asyncio.Future[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ended.append(end)
        try:
            await converse(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            end.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*ended)


class Cut(bytes):
    """An answer in whose midst the node hangs up."""


@asynccontextmanager
async def scripted(*answers: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve a node that greets, and answers each call on it with the next of these bytes; None: it hangs up."""
    asked: list[bytes] = []
    left = list(answers)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = CommandParser(2**20)
        while data := await reader.read(65536):
            parser.feed(data)
            while words := parser.next():
                assert isinstance(words, list)
                if words[0] in (b"AUTH", b"ACL"):
                    writer.write(OK if words[0] == b"AUTH" else bulk(b"ada"))
                    continue
                asked.append(words[1])
                answer = left.pop(0)
                if answer is None:
                    return
                writer.write(answer)
                if isinstance(answer, Cut):
                    return

    async with listening(converse) as url:
        yield url, asked


JOB = (
    b'{"id":"1","script":"x","version":"1","state":"succeeded","attempt":1,"created":"2026-01-01T00:00:00Z",'
    b'"principal":"ada","transport":"socket","node":"n"}'
)


async def test_a_request_whose_answer_was_lost_is_not_repeated(shape: Any) -> None:
    async with scripted(None, None, bulk(JOB)) as (url, asked), session(shape, url) as caller:
        with pytest.raises(Unavailable, match="may have been carried out"):
            await caller.submit(JobRequest(script="x"))
        with pytest.raises(Unavailable, match="may have been carried out"):
            await caller.rerun("1")
        assert asked == [b"submit", b"rerun"]


async def test_a_request_with_a_key_or_without_effect_is_repeated_once(shape: Any) -> None:
    async with scripted(None, bulk(JOB), None, bulk(JOB), None, None) as (url, asked), session(shape, url) as caller:
        assert (await caller.run(JobRequest(script="x", key="k"))).id == "1"
        assert (await caller.get_job("1")).id == "1"
        with pytest.raises(Unavailable):
            await caller.get_job("1")
        assert asked == [b"run"] * 2 + [b"get_job"] * 4


async def test_events_go_on_where_the_line_broke(shape: Any) -> None:
    def event(n: int) -> bytes:
        return b"*2\r\n$5\r\nevent\r\n" + bulk(
            b'{"kind":"state","job":"1","n":%d,"time":"2026-01-01T00:00:00Z","state":"running","attempt":1}' % n
        )

    cut = Cut(event(1) + event(2)[:-20])
    async with scripted(cut, event(2) + b"*2\r\n$3\r\nend\r\n:2\r\n") as (url, _), session(shape, url) as caller:
        assert [event.n async for event in caller.events("1")] == [1, 2]


@pytest.mark.parametrize(
    "answer", [b":1\r\n", b"+OK\r\n", bulk(b"{"), bulk(b'{"id": 1}'), b"-INTERNAL {x\r\n", b"-ERR unknown command\r\n"]
)
async def test_an_answer_that_is_none_is_an_error_of_ours(shape: Any, answer: bytes) -> None:
    async with scripted(answer) as (url, _), session(shape, url) as caller:
        with pytest.raises(Internal):
            await caller.get_job("1")


async def test_what_speaks_no_resp_is_unavailable(shape: Any) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(converse) as url:
        with pytest.raises(Unavailable, match=url):
            async with session(shape, url):
                pass


async def test_an_answer_that_does_not_come_in_time_is_unavailable(shape: Any) -> None:
    async with scripted(b"") as (url, _), session(shape, url, timeout=0.1) as caller:
        with pytest.raises(Unavailable, match=r"no answer within 0\.1 s"):
            await caller.get_job("1")


async def test_threads_share_a_blocking_session(tmp_path: Path) -> None:
    def use(url: str) -> int:
        with_url = for_url(url).connect(Target(url))
        opened = with_url.authenticate(Token(TOKEN))
        results: list[Any] = []

        def call(number: int) -> None:
            for _ in range(20):
                job = opened.run(JobRequest(script="hello", params={"name": number}))
                results.append(job.result == {"hello": number})

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        opened.close()
        opened.close()
        with_url.close()
        return results.count(True)

    async with serving(tmp_path) as node:
        assert await asyncio.to_thread(use, node.url) == 160


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "remoterun tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@asynccontextmanager
async def serving_tls(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Node, str]]:
    cert, key = certificate(tmp_path / "tls")
    async with serving(tmp_path, cert=str(cert), key=str(key), **settings) as node:
        yield node, str(cert)


async def test_tls_is_verified(tmp_path: Path, shape: Any) -> None:
    async with serving_tls(tmp_path) as (node, ca_file):
        assert node.url.startswith("tls://127.0.0.1:")
        async with session(shape, node.url, ca_file=ca_file) as caller:
            large = {"name": "x" * 300_000}
            assert (await caller.run(JobRequest(script="hello", params=large))).result == {"hello": large["name"]}
            job = await caller.run(JobRequest(script="echo", stdin="x" * 500_000))
            opened = await caller.open_artifact(job.id, "out/copy.bin")
            assert sum([len(chunk) async for chunk in opened.chunks]) == 500_000
        with pytest.raises(Unavailable, match=r"certificate verify failed|self.signed"):
            async with session(shape, node.url):
                pass
        with pytest.raises(Unavailable):
            async with session(shape, node.url.replace("tls://", "tcp://")):
                pass


async def test_a_client_certificate_may_be_required(tmp_path: Path, shape: Any) -> None:
    async with serving_tls(tmp_path, client_ca=str(tmp_path / "tls" / "cert.pem")) as (node, ca_file):
        with pytest.raises(Unavailable):
            async with session(shape, node.url, ca_file=ca_file):
                pass
        options = {"cert": ca_file, "key": str(Path(ca_file).with_name("key.pem"))}
        async with session(shape, node.url, ca_file=ca_file, options=options) as caller:
            assert caller.principal == "ada"


async def test_certificates_that_are_missing_are_named(tmp_path: Path, shape: Any) -> None:
    wrong: list[dict[str, Any]] = [{"cert": "x.pem"}, {"cert": "x.pem", "key": "y.pem"}, {"client_ca": "x.pem"}]
    for settings in wrong:
        with pytest.raises(Unavailable, match="cert"):
            async with serving(tmp_path, **settings):
                pass
    with pytest.raises(Unavailable, match="certificates"):
        async with session(shape, "tls://127.0.0.1:1", ca_file=str(tmp_path / "none.pem")):
            pass


def test_the_blocking_client_imports_no_event_loop() -> None:
    code = "import sys, remoterun_socket.client; print(*{'asyncio', 'ssl', 'logging', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
