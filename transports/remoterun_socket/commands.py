"""The commands that run, show and stop jobs, as people and Redis clients type them.

In `RUN name …` a word with an `=` is a parameter; `TIMEOUT s`, `KEY k` and `STDIN bytes` are options, in any case
and at any place, and so is `FILE key name bytes`, once for each file that is sent along; after `--` every word is
argv. Values that are more than a text are JSON in a bulk string.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import UnsetType

from remoterun.errors import Invalid
from remoterun.grammar import parse
from remoterun.messages import (
    Job,
    JobQuery,
    JobRequest,
    NodeInfo,
    OutputEvent,
    UploadedFile,
    encode,
    stdin_fields,
)
from remoterun.operations import find_operation, parse_fields
from remoterun.service import AsyncSession
from remoterun.states import State
from remoterun_socket.answers import Answer, Caller, Later, exact_refusal, job_failed, refusal
from remoterun_socket.command import Command, number, options, seconds, text
from remoterun_socket.protocol import bulk
from remoterun_socket.protocol import encode as encode_value
from remoterun_socket.streams import ArtifactBulk, ArtifactStream, EventStream, close_with

_RUN_OPTIONS: Final = frozenset({b"TIMEOUT", b"KEY", b"STDIN", b"TRACE"})


def job_request(words: list[bytes]) -> JobRequest:
    """Read `… name params… [TIMEOUT s] [KEY k] [STDIN bytes] [TRACE traceparent] [-- argv]`.

    Raises:
        Invalid: a word is neither, or its value is wrong.
    """
    said: list[str] = []
    chosen: list[bytes] = []
    files: dict[str, UploadedFile] = {}
    rest = iter(words)
    next(rest)
    script = text(next(rest))
    for word in rest:
        if b"=" not in word and word.upper() in _RUN_OPTIONS:
            chosen += (word, *_one(rest))
            continue
        if word.upper() == b"FILE":
            _add_file(files, rest)
            continue
        said.append(text(word))
        if word == b"--":
            said += map(text, rest)
    fields = parse(said).request_fields()
    if chosen:
        fields |= _run_options(chosen)
    if files:
        fields["files"] = files
    return JobRequest(script=script, **fields)


def _one(rest: Any) -> tuple[bytes, ...]:
    value = next(rest, None)
    return () if value is None else (value,)


def _add_file(files: dict[str, UploadedFile], rest: Iterator[bytes]) -> None:
    words = [*islice(rest, 3)]
    if len(words) < 3:
        raise Invalid("FILE needs three words after it: the parameter, the file's name, its bytes")
    path = text(words[0])
    if path in files:
        raise Invalid(f"{path} is given two files; a list of files has the parameters {path}.0, {path}.1 …")
    files[path] = UploadedFile(name=text(words[1]), data=words[2])


def _run_options(words: list[bytes]) -> dict[str, Any]:
    found = options(words, sorted(_RUN_OPTIONS))
    fields = stdin_fields(found.get(b"STDIN"))
    if b"TIMEOUT" in found:
        fields["timeout"] = seconds("TIMEOUT", found[b"TIMEOUT"])
    if b"KEY" in found:
        fields["key"] = text(found[b"KEY"])
    if b"TRACE" in found:
        fields["trace"] = text(found[b"TRACE"])
    return fields


def _run(caller: Caller, words: list[bytes]) -> Answer:
    return Later(caller.proved().run(job_request(words)), _tell_end, refusal)


def _tell_end(caller: Caller, job: Job) -> bytes | Coroutine[Any, Any, bytes]:
    if job.state is not State.SUCCEEDED:
        return job_failed(job)
    if not isinstance(job.params_json, UnsetType):  # a function script's job has params, a plain one's has args
        return bulk(job.result_json)
    return _output(caller.proved(), job, stdout_only=True)


async def _output(session: AsyncSession, job: Job, stdout_only: bool) -> bytes:
    """Gather what a job wrote until now, as one bulk string."""
    pieces: list[bytes] = []
    left = job.output.bytes
    async with AsyncExitStack() as stack:
        if left:
            events = session.events(job.id)
            close_with(stack, events)
            async for event in events:
                if not isinstance(event, OutputEvent):
                    continue
                piece = event.raw()
                left -= len(piece)
                if event.stream == "stdout" or not stdout_only:
                    pieces.append(piece)
                if left <= 0:
                    break
    return bulk(b"".join(pieces))


def _submit(caller: Caller, words: list[bytes]) -> Answer:
    return Later(caller.proved().submit(job_request(words)), _tell_id, refusal)


def _rerun(caller: Caller, words: list[bytes]) -> Answer:
    newest = len(words) == 3
    if newest and words[2].upper() != b"NEWEST":
        raise Invalid("write RERUN id, or RERUN id NEWEST")
    return Later(caller.proved().rerun(text(words[1]), newest), _tell_id, refusal)


def _tell_id(_: Caller, job: Job) -> bytes:
    return bulk(job.id.encode())


def _cancel(caller: Caller, words: list[bytes]) -> Answer:
    return Later(caller.proved().cancel(text(words[1])), _tell_json, refusal)


def _tell_json(_: Caller, value: Any) -> bytes:
    return bulk(encode(value))


async def _as_json(value: Awaitable[Any]) -> bytes:
    return bulk(encode(await value))


def _call(caller: Caller, words: list[bytes]) -> Answer:
    try:
        operation = find_operation(text(words[1]))
        answer = operation.invoke(caller.proved(), parse_fields(operation.fields, words[2]))
    except Invalid as failure:
        return exact_refusal(failure)
    return Later(answer, _tell_json, exact_refusal, acts=operation.acts)


def _job(caller: Caller, words: list[bytes]) -> Answer:
    return _as_json(caller.proved().get_job(text(words[1])))


def _jobs(caller: Caller, words: list[bytes]) -> Answer:
    found = options(words[1:], (b"SCRIPT", b"STATE", b"PRINCIPAL", b"TEXT", b"LIMIT", b"BEFORE"))
    fields: dict[str, Any] = {name.decode().lower(): text(value) for name, value in found.items()}
    if b"LIMIT" in found:
        fields["limit"] = number("LIMIT", found[b"LIMIT"], 1)
    try:
        query = msgspec.convert(fields, JobQuery)
    except msgspec.ValidationError as error:
        raise Invalid(f"{error}; the states are {', '.join(State)}") from error
    return _as_json(caller.proved().list_jobs(query))


def _wait(caller: Caller, words: list[bytes]) -> Answer:
    timeout = seconds("seconds", words[2]) if len(words) == 3 else None
    return _as_json(caller.proved().wait(text(words[1]), timeout))


async def _output_so_far(caller: Caller, words: list[bytes]) -> bytes:
    session = caller.proved()
    return await _output(session, await session.get_job(text(words[1])), stdout_only=False)


def _events(caller: Caller, words: list[bytes]) -> Answer:
    after = options(words[2:], (b"AFTER",)).get(b"AFTER", b"0")
    return EventStream(caller, text(words[1]), number("AFTER", after))


async def _artifacts(caller: Caller, words: list[bytes]) -> bytes:
    return bulk(encode((await caller.proved().get_job(text(words[1]))).artifacts))


def _artifact(caller: Caller, words: list[bytes]) -> Answer:
    if len(words) == 3:
        return ArtifactBulk(caller, text(words[1]), text(words[2]))
    if words[3].upper() != b"STREAM":
        raise Invalid("write ARTIFACT id name, or ARTIFACT id name STREAM")
    return ArtifactStream(caller, text(words[1]), text(words[2]))


async def _scripts(caller: Caller, words: list[bytes]) -> bytes:
    found = await caller.proved().list_scripts(text(words[1]) if len(words) == 2 else "*")
    return encode_value({script.name: script.description for script in found}, caller.resp3)


def _script(caller: Caller, words: list[bytes]) -> Answer:
    return _as_json(caller.proved().get_script(text(words[1])))


def _refusals(caller: Caller, words: list[bytes]) -> Answer:
    return _as_json(caller.proved().list_refusals(number("limit", words[1], 1) if len(words) == 2 else 50))


async def _info(caller: Caller, words: list[bytes]) -> bytes:
    info = await caller.proved().info()
    if len(words) == 2 and words[1].upper() == b"JSON":
        return bulk(encode(info))
    return bulk(_sections(info).encode())


def _sections(info: NodeInfo) -> str:
    """Write what a node says about itself as Redis does: sections of `key:value` lines."""
    sections: dict[str, dict[str, Any]] = {
        "Server": {
            "node": info.node,
            "remoterun_version": info.version,
            "python_version": info.python,
            "started": info.started.isoformat(),
            "scripts": info.scripts,
        },
        "Load": {
            "queued": info.load.queued,
            "running": info.load.running,
            "workers": info.load.workers,
            "queue": info.load.queue,
        },
        "Transports": {name: " ".join(urls) for name, urls in info.transports.items()},
        "Brokers": dict(info.brokers),
        "Enforced": dict(info.enforced),
        "Counters": dict(info.counters),
    }
    return "\r\n".join(_section(title, lines) for title, lines in sections.items())


def _section(title: str, lines: dict[str, Any]) -> str:
    return "".join((f"# {title}\r\n", *(f"{key}:{value}\r\n" for key, value in lines.items())))


_OPTIONS: Final = (
    "name [key=value …] [FILE key name bytes …] [TIMEOUT s] [KEY k] [STDIN bytes] [TRACE traceparent] [-- argv …]"
)

COMMANDS: Final = (
    Command(f"RUN {_OPTIONS}", "Run a script to its end; its result as JSON, or a plain script's stdout", _run, 2),
    Command(f"SUBMIT {_OPTIONS}", "Start a job and answer its id once it is durable", _submit, 2),
    Command("SCRIPTS [glob]", "List scripts with their descriptions", _scripts, 1, 2),
    Command("SCRIPT name", "Describe a script and its parameters", _script, 2, 2),
    Command("JOB id", "Show a job as it stands", _job, 2, 2),
    Command("JOBS [SCRIPT s] [STATE s] [PRINCIPAL p] [TEXT t] [LIMIT n] [BEFORE id]", "List jobs, newest first", _jobs),
    Command("WAIT id [seconds]", "Show a job once it ended, or as it stands after so long", _wait, 2, 3),
    Command("OUTPUT id", "Give what a job wrote until now, stdout and stderr", _output_so_far, 2, 2),
    Command("EVENTS id [AFTER n]", "Follow a job's events to the last one", _events, 2, 4),
    Command("CANCEL id", "Stop a job and everything that it started", _cancel, 2, 2),
    Command("RERUN id [NEWEST]", "Start an ended job's call again and answer the new id", _rerun, 2, 3),
    Command("ARTIFACTS id", "List the files that a job left", _artifacts, 2, 2),
    Command("ARTIFACT id name [STREAM]", "Give a file that a job left", _artifact, 3, 4),
    Command("REFUSALS [n]", "List the newest refused calls", _refusals, 1, 2),
    Command("INFO [JSON]", "Describe the node", _info, 1, 2),
    Command("CALL operation json", "Call an operation in its exact form", _call, 3, 3),
)
