"""The server half under callers that are unknown, hostile, slow, many, or gone."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from pathlib import Path

import pytest

from remoterun.errors import Unavailable
from remoterun_socket import SocketSettings, transport
from remoterun_socket.protocol import ErrorReply, encode_command
from tests.integration.socket_fake import TOKEN, FakeService
from tests.integration.socket_node import Raw, context, on_both_loops, raw, serving


@on_both_loops
async def test_nothing_but_authentication_is_done_for_the_unknown(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node) as caller:
        for line in (
            "RUN hello name=Ada",
            "SUBMIT hold",
            "INFO",
            "PING",
            "HELP",
            "COMMAND",
            "nonsense",
            "CALL info {}",
        ):
            assert (await caller.ask(line)).code == "NOAUTH"
        assert (await caller.ask("HELLO 3")).code == "NOAUTH"
        assert not node.service.entries


@on_both_loops
async def test_a_wrong_token_is_refused_and_ends_the_session(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        assert (await caller.ask("AUTH nonsense")).code == "WRONGPASS"
        assert (await caller.ask("PING")).code == "NOAUTH"
        assert await caller.ask(f"AUTH anyone {TOKEN}") == b"OK"
        assert await caller.ask("ACL WHOAMI") == b"ada"
        assert (await caller.ask("HELLO 3 AUTH default nonsense")).code == "WRONGPASS"
        assert (await caller.ask("HELLO 4")).code == "NOPROTO"


@on_both_loops
async def test_what_follows_auth_in_the_same_packet_waits_for_it(tmp_path: Path) -> None:
    service = FakeService()
    service.authenticating.clear()
    async with serving(tmp_path, service) as node, raw(node) as caller:
        large = b"x" * 100_000
        caller.send(b"AUTH %b\r\n" % TOKEN.encode() + encode_command(b"PING", large) + b"AUTH no\r\nPING\r\n")
        service.authenticating.set()
        assert await caller.reply() == b"OK"
        assert await caller.reply() == large
        assert (await caller.reply()).code == "WRONGPASS"
        assert (await caller.reply()).code == "NOAUTH"


@on_both_loops
async def test_auth_waits_for_the_answers_to_what_came_before(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller, raw(node, TOKEN) as other:
        caller.send(b"RUN hold\r\nHELLO 3\r\nCLIENT GETNAME\r\n")
        await other.ask(f"CANCEL {await node.service.started.get()}")
        assert (await caller.reply()).code == "CANCELLED"
        assert (await caller.reply())[b"proto"] == 3
        assert await caller.reply() is None


@on_both_loops
async def test_a_caller_that_does_not_authenticate_in_time_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path, changes={"auth_timeout": 0.05}) as node, raw(node) as caller, raw(node) as slow:
        slow.send(b"*2\r\n$4\r\nAU")
        assert b"-NOAUTH no authentication" in await caller.rest()
        assert b"-NOAUTH no authentication" in await slow.rest()


@on_both_loops
async def test_a_caller_that_has_authenticated_may_stay(tmp_path: Path) -> None:
    async with serving(tmp_path, changes={"auth_timeout": 0.5}) as node, raw(node, TOKEN) as caller:
        async with raw(node) as unknown:
            await unknown.rest()  # so long
        assert await caller.ask("PING") == b"PONG"


@on_both_loops
async def test_a_revoked_token_stops_working_on_an_open_connection(tmp_path: Path) -> None:
    async with serving(tmp_path, changes={"auth_timeout": 0.5}) as node, raw(node, TOKEN) as caller:
        del node.service.tokens[TOKEN]
        caller.send(b"INFO\r\n")
        assert await caller.reply() == ErrorReply("NOAUTH", "the token was revoked")
        assert b"-NOAUTH no authentication" in await caller.rest()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"AMQP\x00\x00\x09\x01",
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",
        b"*1000000000\r\n",
        b"*1\r\n$-1\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\nAUTH rr_right\r\nRUN hello name=Ada\r\n",
        b"OPTIONS / HTTP/1.1\r\n\r\n",
        b"Host: x\r\n",
    ],
)
@on_both_loops
async def test_bytes_of_other_protocols_are_refused_and_the_connection_closed(tmp_path: Path, data: bytes) -> None:
    async with serving(tmp_path) as node, raw(node) as caller:
        caller.send(data)
        text = await caller.rest()
        assert text.startswith(b"-ERR ")
        assert text.count(b"\r\n") == 1
        assert not node.service.entries
        assert not node.service.sessions


@on_both_loops
async def test_a_request_that_is_too_large_is_refused_while_it_is_being_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node) as unknown, raw(node, TOKEN) as caller:
        unknown.send(encode_command(b"AUTH", b"x" * 9000))
        assert (await unknown.rest()).startswith(b"-TOO_LARGE ")
        assert await caller.ask("PING " + "x" * 60_000) == b"x" * 60_000
        caller.send(encode_command(b"PING", b"x" * 2**20))
        assert (await caller.rest()).startswith(b"-TOO_LARGE ")


@on_both_loops
async def test_connections_beyond_the_cap_are_turned_away(tmp_path: Path) -> None:
    async with serving(tmp_path, connections=2) as node, raw(node, TOKEN) as first:
        async with raw(node, TOKEN), raw(node) as third:
            assert await third.rest() == b"-ERR too many connections; try again later\r\n"
        assert await first.ask("PING") == b"PONG"


@on_both_loops
async def test_a_connection_that_ends_makes_room(tmp_path: Path) -> None:
    async with serving(tmp_path, connections=1) as node:
        for _ in range(5):
            async with raw(node, TOKEN) as caller:
                caller.send(b"QUIT\r\n")
                assert await caller.rest() == b"+OK\r\n"


@on_both_loops
async def test_quit_answers_and_closes(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        caller.send(b"PING\r\nQUIT\r\nPING\r\n")
        assert await caller.rest() == b"+PONG\r\n+OK\r\n"


@on_both_loops
async def test_a_caller_that_closed_its_half_still_gets_its_answers(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node) as caller, raw(node, TOKEN) as other:
        caller.send(b"AUTH %b\r\nRUN hold\r\nRUN hello name=Ada\r\n" % TOKEN.encode())
        caller.writer.write_eof()
        await other.ask(f"CANCEL {await node.service.started.get()}")
        text = await caller.rest()
        assert text.startswith(b"+OK\r\n-CANCELLED ")
        assert text.endswith(b'{"hello": "Ada"}\r\n')


@on_both_loops
async def test_a_gone_caller_cancels_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as other:
        async with raw(node, TOKEN) as caller:
            caller.send(b"RUN hold\r\nEVENTS x\r\n")
            job_id = await node.service.started.get()
            caller.send(f"WAIT {job_id}\r\nEVENTS {job_id}\r\n".encode())
            caller.writer.transport.abort()
        assert json.loads(await other.ask(f"JOB {job_id}"))["state"] == "running"
        assert json.loads(await other.ask(f"CANCEL {job_id}"))["state"] == "cancelled"


@on_both_loops
async def test_no_more_commands_are_under_way_than_the_pipeline_is_deep(tmp_path: Path) -> None:
    async with serving(tmp_path, pipeline=4) as node, raw(node, TOKEN) as caller, raw(node, TOKEN) as other:
        caller.send(b"RUN hold\r\n" * 10)
        for expected in (4, 4, 2):
            started = [await node.service.started.get() for _ in range(expected)]
            assert await other.ask("PING") == b"PONG"
            assert node.service.started.empty()
            for job_id in started:
                await other.ask(f"CANCEL {job_id}")
        assert [(await caller.reply()).code for _ in range(10)] == ["CANCELLED"] * 10


@on_both_loops
async def test_a_reader_that_keeps_up_gets_more_than_the_buffer_holds(tmp_path: Path) -> None:
    async with serving(tmp_path, write_buffer=100_000) as node, raw(node, TOKEN) as caller:
        node.service.flood = 5000
        job_id = (await caller.ask("SUBMIT flood")).decode()
        caller.send(f"EVENTS {job_id}\r\nPING\r\n".encode())
        for n in range(1, 5003):
            assert json.loads((await caller.reply())[1])["n"] == n
        assert await caller.reply() == [b"end", 5002]
        assert await caller.reply() == b"PONG"


@on_both_loops
async def test_a_reader_that_takes_nothing_is_cut_off_with_the_number_to_resume_from(tmp_path: Path) -> None:
    async with serving(tmp_path, write_buffer=200_000, stall=1) as node, raw(node, TOKEN) as other:
        node.service.flood = 20_000
        job_id = (await other.ask("SUBMIT flood")).decode()
        reader, writer = await asyncio.open_connection(sock=_small_buffered_socket(node.port), limit=1024)
        caller = Raw(reader, writer)
        caller.send(f"AUTH {TOKEN}\r\nEVENTS {job_id}\r\n".encode())
        await node.service.unfollowed.wait()  # reading nothing, until the node does not put up with it
        assert await caller.reply() == b"OK"
        last = 0
        while not isinstance(reply := await caller.reply(), ErrorReply):
            last = json.loads(reply[1])["n"]
        assert reply.code == "UNAVAILABLE"
        assert reply.message.endswith(f"resume with EVENTS {job_id} AFTER {last}")
        assert 0 < last < 20_000
        assert await caller.rest() == b""
        writer.close()


def _small_buffered_socket(port: int) -> socket.socket:
    caller = socket.socket()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.connect(("127.0.0.1", port))
    caller.setblocking(False)
    return caller


@on_both_loops
async def test_a_caller_that_reads_no_replies_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path, write_buffer=100_000, stall=0.1) as node:
        _, writer = await asyncio.open_connection(sock=_small_buffered_socket(node.port), limit=1024)
        writer.write(f"AUTH {TOKEN}\r\n".encode())
        with pytest.raises(ConnectionError):
            await _write_without_end(writer)
        writer.close()


async def _write_without_end(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(encode_command(b"PING", b"x" * 100_000))
        await writer.drain()


@on_both_loops
async def test_stopping_lets_calls_end_and_ends_streams_with_the_number_to_resume_from(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as node,
        raw(node, TOKEN) as caller,
        raw(node, TOKEN) as reader,
        raw(node, TOKEN) as idle,
    ):
        caller.send(b"RUN hold\r\n")
        job_id = await node.service.started.get()
        reader.send(f"EVENTS {job_id}\r\n".encode())
        assert (await reader.reply())[0] == b"event"
        stopping = asyncio.create_task(node.half.stop(30))
        assert await reader.reply() == ErrorReply(
            "UNAVAILABLE", f"the node is stopping; resume with EVENTS {job_id} AFTER 1"
        )
        assert await reader.rest() == b""
        assert await idle.rest() == b""
        entry = node.service.entries[job_id]
        entry.end(entry.job.state.SUCCEEDED)
        assert await caller.reply() == b"null"
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", node.port)
        assert not os.path.exists(node.unix_path)  # noqa: ASYNC240, PTH110


@on_both_loops
async def test_stopping_cuts_off_what_does_not_end_in_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        caller.send(b"RUN hold\r\n")
        await node.service.started.get()
        await node.half.stop(0.01)
        assert await caller.rest() == b""


@on_both_loops
async def test_the_unix_socket_is_its_users_alone_and_proves_the_user(tmp_path: Path) -> None:
    service = FakeService()
    service.uids.add(os.getuid())
    async with serving(tmp_path, service) as node:
        assert stat.S_IMODE(os.stat(node.unix_path).st_mode) == 0o600  # noqa: PTH116
        async with raw(node, unix=True) as caller:
            assert await caller.ask("ACL WHOAMI") == f"uid:{os.getuid()}".encode()
            assert await caller.ask("PING " + "x" * 10_000) == b"x" * 10_000
            assert await caller.ask(f"AUTH {TOKEN}") == b"OK"
            assert await caller.ask("ACL WHOAMI") == b"ada"
        ((_, origin), _) = service.sessions
        assert origin.peer == f"uid {os.getuid()}, pid {os.getpid()}"


@on_both_loops
async def test_a_user_that_the_node_does_not_know_needs_a_token_on_the_unix_socket(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, unix=True) as caller:
        assert (await caller.ask("PING")).code == "NOAUTH"
        assert await caller.ask(f"AUTH {TOKEN}") == b"OK"


@on_both_loops
async def test_a_stale_unix_socket_is_replaced_and_another_file_is_not(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "remoterun.sock"))
    stale.close()
    async with serving(tmp_path) as node, raw(node, TOKEN, unix=True) as caller:
        assert await caller.ask("PING") == b"PONG"
    (tmp_path / "remoterun.sock").write_text("mine")
    with pytest.raises(OSError, match="move it away"):
        async with serving(tmp_path):
            pass
    assert (tmp_path / "remoterun.sock").read_text() == "mine"


@on_both_loops
async def test_a_path_too_long_for_a_unix_socket_says_what_to_do(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(OSError, match=r"shorter path, or set \[socket\] unix = false"):
        async with serving(deep):
            pass
    async with serving(deep, unix=False) as node:
        assert set(node.addresses) == {"socket"}


@on_both_loops
async def test_a_port_in_use_says_what_to_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as node:
        text = f"127.0.0.1:{node.port}"
        with pytest.raises(OSError, match=rf"{text} is in use; stop what holds it, or set \[socket\] listen"):
            async with serving(tmp_path / "other", listen=(text,), unix=False):
                pass


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "example.org:0"])
@on_both_loops
async def test_addresses_beyond_loopback_need_tls_or_the_operators_word(tmp_path: Path, listen: str) -> None:
    half = transport.server(context(FakeService(), tmp_path), SocketSettings(listen=(listen,)))
    with pytest.raises(Unavailable, match="insecure_listen"):
        await half.start()


@pytest.mark.parametrize("listen", ["127.0.0.1:x", "127.0.0.1:70000", ":7460", ""])
@on_both_loops
async def test_an_address_that_is_none_is_named(tmp_path: Path, listen: str) -> None:
    half = transport.server(context(FakeService(), tmp_path), SocketSettings(listen=(listen,)))
    with pytest.raises(Unavailable, match="listen"):
        await half.start()


@on_both_loops
async def test_both_loopbacks_can_be_listened_on(tmp_path: Path) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    async with serving(tmp_path, listen=("127.0.0.1:0", "[::1]:0")) as node:
        first, second = node.addresses["socket"]
        assert first.startswith("tcp://127.0.0.1:")
        assert second.startswith("tcp://[::1]:")


def _has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True
