"""Each command over a real connection: what it answers, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remoterun.messages import encode
from remoterun_socket.protocol import ErrorReply, encode_command
from tests.integration.socket_fake import OTHER, TOKEN
from tests.integration.socket_node import Node, Raw, raw, serving


async def start(node: Node, caller: Raw, line: str) -> str:
    job_id: bytes = await caller.ask(f"SUBMIT {line}")
    return job_id.decode()


async def events(caller: Raw) -> tuple[list[dict[str, object]], int]:
    found: list[dict[str, object]] = []
    while True:
        kind, value = await caller.reply()
        if kind == b"end":
            return found, value
        assert kind == b"event"
        found.append(json.loads(value))


async def test_run_of_a_function_script_answers_its_result(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        assert await caller.ask("RUN hello name=Ada") == b'{"hello": "Ada"}'
        assert await caller.ask("run hello name:=3") == b'{"hello": 3}'
        assert await caller.ask("RUN hello name=a name=b") == b'{"hello": ["a", "b"]}'
        assert await caller.ask("RUN nothing") == b"null"


async def test_run_of_a_plain_script_answers_its_stdout(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        assert await caller.ask(r'RUN echo STDIN "\xff\x00" -- TIMEOUT a=b') == b"\xff\x00TIMEOUT a=b"
        assert await caller.ask("RUN echo") == b""


async def test_options_may_stand_anywhere_before_the_argv(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        await start(node, caller, "hello timeout 1.5 name=Ada KEY k1 Stdin text")
        (entry,) = node.service.entries.values()
        assert encode(entry.request) == encode(
            {"script": "hello", "params": {"name": "Ada"}, "stdin": "text", "timeout": 1.5, "key": "k1"}
        )
        assert await start(node, caller, "hello name=Ada KEY k1 STDIN text TIMEOUT 1500ms") == entry.job.id


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("RUN hello", "INVALID", "bad parameters; name: missing"),
        ("RUN hello Ada", "INVALID", "key=value"),
        ("RUN hello name:=x", "INVALID", "JSON"),
        ("RUN hello name=Ada TIMEOUT", "INVALID", "TIMEOUT needs a value"),
        ("RUN hello name=Ada TIMEOUT soon", "INVALID", "soon"),
        ("RUN hello KEY a KEY b", "INVALID", "once each"),
        (r'RUN hello "name=\xff"', "INVALID", "UTF-8"),
        ("RUN nowhere", "NOT_FOUND", "nowhere"),
        ("RUN", "ERR", "RUN name"),
        ("JOB nowhere", "NOT_FOUND", "nowhere"),
        ("JOBS LIMIT -1", "INVALID", "LIMIT"),
        ("JOBS STATE asleep", "INVALID", "queued, running"),
        ("JOBS SINCE x", "INVALID", "BEFORE"),
        ("WAIT nowhere soon", "INVALID", "soon"),
        ("EVENTS nowhere", "NOT_FOUND", "nowhere"),
        ("EVENTS nowhere AFTER x", "INVALID", "AFTER"),
        ("ARTIFACT nowhere x", "NOT_FOUND", "nowhere"),
        ("ARTIFACT nowhere x WHOLE", "INVALID", "STREAM"),
        ("RERUN nowhere OLDEST", "INVALID", "NEWEST"),
        ("FLUSHALL", "ERR", "unknown command 'FLUSHALL'; HELP lists them"),
        ("SELECT 1", "ERR", "only 0"),
        ("CALL explode {}", "INVALID", "explode"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, line: str, code: str, said: str) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        reply = await caller.ask(line)
        assert isinstance(reply, ErrorReply)
        assert reply.code == code
        assert said in reply.message
        assert await caller.ask("PING") == b"PONG"


async def test_busy_says_when_to_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        caller.send(encode_command(b"CALL", b"submit", b'{"script": "hello", "trace": "busy"}'))
        reply = await caller.reply()
        assert reply.code == "BUSY"
        assert json.loads(reply.message) == {
            "code": "busy",
            "message": "the queue is full",
            "fields": [],
            "retry_after": 1.5,
        }


async def test_a_failed_job_is_an_error_of_its_state(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller, raw(node, TOKEN) as other:
        failed = await caller.ask("RUN fail")
        (job_id,) = node.service.entries
        assert failed == ErrorReply("FAILED", f"job {job_id} of fail: failed: ValueError: no luck")
        await node.service.started.get()
        caller.send(b"RUN hold\r\n")
        held = await node.service.started.get()
        assert json.loads(await other.ask(f"CANCEL {held}"))["state"] == "cancelled"
        assert (await caller.reply()).code == "CANCELLED"


async def test_a_job_can_be_looked_at_waited_for_and_run_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        job_id = await start(node, caller, "hold")
        assert json.loads(await caller.ask(f"JOB {job_id}"))["state"] == "running"
        assert json.loads(await caller.ask(f"WAIT {job_id} 0.01"))["state"] == "running"
        assert json.loads(await caller.ask(f"CANCEL {job_id}"))["state"] == "cancelled"
        assert json.loads(await caller.ask(f"WAIT {job_id}"))["state"] == "cancelled"
        again = (await caller.ask(f"RERUN {job_id} newest")).decode()
        assert json.loads(await caller.ask(f"JOB {again}"))["rerun_of"] == job_id
        page = json.loads(await caller.ask("JOBS SCRIPT hold STATE running LIMIT 5"))
        assert [job["id"] for job in page["jobs"]] == [again]


@pytest.mark.parametrize("version", [2, 3])
async def test_events_stream_to_an_end_marker(tmp_path: Path, version: int) -> None:
    async with serving(tmp_path) as node, raw(node) as caller:
        await caller.ask(f"HELLO {version} AUTH default {TOKEN}")
        job_id = await start(node, caller, "echo -- x")
        caller.send(f"EVENTS {job_id}\r\nEVENTS {job_id} AFTER 3\r\nPING\r\n".encode())
        found, last = await events(caller)
        assert [event["n"] for event in found] == [1, 2, 3, 4, 5]
        assert [event["kind"] for event in found] == ["state", "output", "output", "artifact", "state"]
        assert found[-1]["final"] is True
        assert last == 5
        later, last = await events(caller)
        assert [event["n"] for event in later] == [4, 5]
        assert await caller.reply() == b"PONG"


async def test_events_are_push_messages_in_resp3_and_arrays_in_resp2(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        job_id = await start(node, caller, "nothing")
        caller.send(f"EVENTS {job_id} AFTER 1\r\n".encode())
        assert await caller.reader.readline() == b"*2\r\n"
        await caller.reader.readuntil(b"end\r\n:2\r\n")
        await caller.ask("HELLO 3")
        caller.send(f"EVENTS {job_id} AFTER 1\r\nQUIT\r\n".encode())
        text = await caller.rest()
        assert text.startswith(b">2\r\n$5\r\nevent\r\n")
        assert text.endswith(b"*2\r\n$3\r\nend\r\n:2\r\n+OK\r\n")


async def test_events_of_a_running_job_come_as_they_happen(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller, raw(node, TOKEN) as other:
        job_id = await start(node, caller, "hold")
        caller.send(f"EVENTS {job_id}\r\n".encode())
        assert json.loads((await caller.reply())[1])["state"] == "running"
        await other.ask(f"CANCEL {job_id}")
        assert json.loads((await caller.reply())[1])["final"] is True
        assert await caller.reply() == [b"end", 2]


async def test_output_and_artifacts(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        large = bytes(range(256)) * 3000
        caller.send(encode_command(b"SUBMIT", b"echo", b"STDIN", large))
        job_id = (await caller.reply()).decode()
        assert await caller.ask(f"OUTPUT {job_id}") == large + b"warned"
        (info,) = json.loads(await caller.ask(f"ARTIFACTS {job_id}"))
        assert info == {"name": "out/copy.bin", "size": len(large), "media_type": "application/octet-stream"}
        caller.send(f"ARTIFACT {job_id} out/copy.bin\r\nPING\r\nARTIFACT {job_id} out/copy.bin STREAM\r\n".encode())
        assert await caller.reply() == large
        assert await caller.reply() == b"PONG"
        assert (await caller.reply())[0] == b"artifact"
        chunks = b""
        while (message := await caller.reply())[0] == b"chunk":
            chunks += message[1]
        assert message == [b"end", len(large)]
        assert chunks == large
        assert (await caller.ask(f"ARTIFACT {job_id} nowhere")).code == "NOT_FOUND"


async def test_an_artifact_shorter_than_its_record_ends_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        job_id = await start(node, caller, "echo STDIN abcdef")
        node.service.entries[job_id].files["out/copy.bin"] = b"abc"
        caller.send(f"ARTIFACT {job_id} out/copy.bin\r\n".encode())
        assert await caller.rest() in (b"$6\r\nabc", b"")


async def test_scripts_and_the_node_describe_themselves(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller:
        assert await caller.ask("SCRIPTS hello") == [b"hello", b"Say hello"]
        assert json.loads(await caller.ask("SCRIPT hello"))["kind"] == "function"
        text = (await caller.ask("INFO")).decode()
        assert "# Load\r\nqueued:0\r\nrunning:1\r\n" in text
        assert json.loads(await caller.ask("INFO JSON"))["load"]["running"] == 1
        assert len(json.loads(await caller.ask("REFUSALS 1"))) == 1
        lines = await caller.ask("HELP")
        assert any(line.startswith(b"RUN name") for line in lines)
        assert await caller.ask("COMMAND COUNT") == len(lines)
        assert [row[0] for row in await caller.ask("COMMAND INFO RUN nowhere") if row] == [b"run"]


async def test_pipelined_commands_run_side_by_side_and_answer_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller, raw(node, TOKEN) as other:
        caller.send(b"RUN hold\r\nRUN hello name=Ada\r\nPING\r\nRUN hold\r\nPING last\r\n")
        started = [await node.service.started.get() for _ in range(3)]
        assert await other.ask(f"CANCEL {started[2]}")
        assert await other.ask(f"CANCEL {started[0]}")
        replies = [await caller.reply() for _ in range(5)]
        assert [reply.code if isinstance(reply, ErrorReply) else reply for reply in replies] == [
            "CANCELLED",
            b'{"hello": "Ada"}',
            b"PONG",
            "CANCELLED",
            b"last",
        ]


async def test_jobs_of_others_are_not_shown(tmp_path: Path) -> None:
    async with serving(tmp_path) as node, raw(node, TOKEN) as caller, raw(node, OTHER) as other:
        job_id = await start(node, caller, "hold")
        for line in ("JOB {}", "WAIT {}", "OUTPUT {}", "EVENTS {}", "CANCEL {}", "RERUN {}", "ARTIFACT {} x"):
            assert (await other.ask(line.format(job_id))).code == "FORBIDDEN"
