"""`remoterun run`, as a process of its own, with a node in its memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from remoterun.cli import stdin as stdin_module
from remoterun.errors import Invalid, TooLarge
from tests.unit.fake_node import LAUNCH, TOKEN

ROOT = Path(__file__).parent.parent.parent


def command(*words: str, launch: str = LAUNCH) -> list[str]:
    return [sys.executable, "-c", launch, *words]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REMOTERUN_", "NO_COLOR"))}
    return {**kept, "PYTHONPATH": str(ROOT), "REMOTERUN_URL": "fake://here", "REMOTERUN_TOKEN": TOKEN, **(extra or {})}


def remoterun(*words: str, env: Mapping[str, str] | None = None, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    if "input" not in kwargs:
        kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(command(*words), env=environment(env), capture_output=True, timeout=30, **kwargs)


def test_a_function_scripts_result_comes_alone_as_json() -> None:
    done = remoterun("run", "hello", "name=Ada")
    assert (done.stdout, done.stderr, done.returncode) == (b'{"hello":"Ada"}\n', b"", 0)


def test_a_result_stands_on_a_line_of_its_own_after_the_output() -> None:
    done = remoterun("run", "chatty")
    assert (done.stdout, done.stderr, done.returncode) == (b"no newline\n[1,2]\n", b"warned\n", 0)


def test_a_plain_script_says_only_what_it_says() -> None:
    done = remoterun("run", "echo", "--", "--full", "a b", "--", input=b"in ")
    assert (done.stdout, done.stderr, done.returncode) == (b"in --full a b --", b"to stderr\n", 0)


def test_output_passes_unchanged_where_there_is_no_terminal() -> None:
    assert remoterun("run", "bytes").stdout == b"\xff\x00\xfe"
    assert remoterun("run", "hostile").stdout == b"\x1b]0;title\x07\x1b[31mred\x1b[0m \x1b[2J\xe2\x80\xaeevil\x1b[5n\n"


def test_progress_is_for_terminals() -> None:
    done = remoterun("run", "steps")
    assert (done.stdout, done.stderr) == (b"half\n[1,2]\n", b"")


@pytest.mark.parametrize(
    ("words", "code", "stderr"),
    [
        (("exit", "--", "7"), 7, b""),
        (("exit", "--", "125"), 125, b""),
        (("leaves",), 4, b""),
        (("killed",), 137, b"remoterun: job job-1 of killed: failed: exit code -9\n"),
        (("late",), 124, b"remoterun: job job-1 of late: timed_out: timeout: it ran longer than 1s\n"),
        (("lost",), 125, b"remoterun: job job-1 of lost: lost\n"),
        (("silent",), 0, b""),
    ],
)
def test_the_exit_code_is_the_scripts_own(words: Sequence[str], code: int, stderr: bytes) -> None:
    done = remoterun("run", *words)
    assert (done.returncode, done.stderr, done.stdout) == (code, stderr, b"")


def test_an_exceptions_traceback_comes_on_stderr_harmlessly() -> None:
    done = remoterun("run", "boom")
    assert done.returncode == 1
    assert done.stderr.decode() == (
        'Traceback (most recent call last):\n  File "boom.py", line 2, in main\nValueError: no ␛]0;way␇\n'
    )


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["run", "nowhere"], ["remoterun: there is no script nowhere"]),
        (
            ["run", "hello"],
            [
                "remoterun: bad parameters",
                "  name: Field required",
                "  times: Input should be a valid integer",
            ],
        ),
        (
            ["run", "hello", "name"],
            [
                "remoterun: bad parameters",
                "  name: a parameter is key=value or key:=json; argv goes after --",
            ],
        ),
        (
            ["run", "hello", "text@/no/such/file"],
            ["remoterun: bad parameters", "  text: /no/such/file cannot be read: No such file or directory"],
        ),
        (
            ["run", "hello", "name=\udcff"],
            ["remoterun: bad parameters", "  name: it is no UTF-8 text; JSON cannot carry it"],
        ),
        (["run", "hello", "a=1", "--", "b"], ["remoterun: give named parameters, or argv after --, not both"]),
        (["run", "hello", "--key", "full", "name=x"], ["remoterun: the queue is full"]),
        (
            ["run", "hello", "--timeout", "soon"],
            ["remoterun: --timeout: 'soon' is no duration; write it like 30s, 5m or 1h30m"],
        ),
        (["run", "hello", "--nmae", "x"], ["remoterun: unrecognized arguments: --nmae x (see remoterun run --help)"]),
        (["run"], ["remoterun: name the script to run; `remoterun ls` shows them all"]),
        (["rnu", "hello"], ["remoterun: there is no command 'rnu'; did you mean run? (see remoterun --help)"]),
        (["ls", "--", "x"], ["remoterun: ls takes nothing after --"]),
        (["--on", "fake://down", "ls"], ["remoterun: nothing answers at fake://down"]),
        (["ls", "--on", "nonsense"], None),
        (
            ["ls", "--token-file", "/no/such"],
            ["remoterun: the token file /no/such cannot be read: No such file or directory"],
        ),
        (
            ["run", "breaks"],
            ["remoterun: the connection was lost; job job-1 was accepted and goes on: `remoterun logs -f job-1`"],
        ),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_the_bad_fields(words: list[str], lines: list[str] | None) -> None:
    done = remoterun(*words)
    assert done.returncode == 125
    said = done.stderr.decode().splitlines()
    if lines is None:
        assert len(said) == 1
        assert said[0].startswith("remoterun: 'nonsense' is no URL")
    else:
        assert said == lines


def test_a_wrong_token_is_refused_and_never_shown() -> None:
    done = remoterun("run", "silent", env={"REMOTERUN_TOKEN": "rr_secret"})
    assert (done.returncode, done.stderr) == (125, b"remoterun: the token is unknown, expired or revoked\n")


def test_json_gives_the_job_as_on_the_wire_and_nothing_else() -> None:
    done = remoterun("run", "chatty", "--json")
    job = json.loads(done.stdout)
    assert (job["state"], job["result"], done.stderr) == ("succeeded", [1, 2], b"")
    assert list(job)[:5] == ["id", "script", "version", "state", "attempt"]
    failed = remoterun("--json", "run", "exit", "--", "3")
    assert (json.loads(failed.stdout)["state"], failed.returncode) == ("failed", 3)


def test_submit_prints_the_id_alone() -> None:
    assert remoterun("submit", "hello", "name=Ada").stdout == b"job-1\n"


def test_options_may_stand_among_parameters(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("line\nétage = @\n")
    words = ["a=1", "--timeout", "5s", "b:=[2]", "c@text", "mail=a@b", "--key", "k", "c:=3", 'd:="x@y"']
    done = remoterun("run", "params", *words, cwd=tmp_path)
    expected = {"a": "1", "b": [2], "c": ["line\nétage = @\n", 3], "mail": "a@b", "d": "x@y"}
    assert json.loads(done.stdout) == expected


def test_stdin_comes_from_files_pipes_and_sockets(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"from a file")
    with (tmp_path / "data").open("rb") as file:
        assert remoterun("run", "echo", stdin=file).stdout == b"from a file"
    assert remoterun("run", "echo", input=b"from a pipe").stdout == b"from a pipe"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"from a socket")
        ours.shutdown(socket.SHUT_WR)
        assert remoterun("run", "echo", stdin=theirs).stdout == b"from a socket"


def test_stdin_may_be_empty_or_closed() -> None:
    assert remoterun("run", "echo", input=b"").stdout == b""
    shell = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command("run", "echo")]
    done = subprocess.run(shell, env=environment(), capture_output=True, timeout=30)
    assert (done.stdout, done.returncode) == (b"", 0)


def test_a_silent_open_pipe_is_not_waited_for_where_that_was_said() -> None:
    reader, writer = os.pipe()
    try:
        done = remoterun("run", "echo", "--no-stdin", stdin=reader)
    finally:
        os.close(reader)
        os.close(writer)
    assert (done.stdout, done.returncode) == (b"", 0)


def test_a_silent_open_pipe_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdin_module, "PATIENCE", 0.01)
    reader, writer = os.pipe()
    try:
        with pytest.raises(Invalid, match=r"--no-stdin.*--stdin"):
            stdin_module.read_stdin(None, reader)
        assert stdin_module.read_stdin(False, reader) is None
        os.write(writer, b"late")
        os.close(writer)
        assert stdin_module.read_stdin(True, reader) == b"late"
    finally:
        os.close(reader)


def test_a_pipe_left_non_blocking_is_read_to_its_end() -> None:
    producer = "import os, sys; os.write(1, b'a'); sys.stdin.read(); os.write(1, b'b')"
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with subprocess.Popen([sys.executable, "-c", producer], stdin=subprocess.PIPE, stdout=writer) as process:
        os.close(writer)
        assert process.stdin is not None
        process.stdin.close()
        assert stdin_module.read_stdin(True, reader) == b"ab"
    os.close(reader)


def test_stdin_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stdin_module, "LARGEST", 10)
    (tmp_path / "data").write_bytes(b"x" * 11)
    with (tmp_path / "data").open("rb") as file, pytest.raises(TooLarge, match="larger than"):
        stdin_module.read_stdin(None, file.fileno())


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*words), env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_an_interrupt_cancels_the_job_and_shows_its_end() -> None:
    with start("run", "waits") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (stdout, process.returncode) == (b"", 130)
    assert stderr == b"\nremoterun: cancelling job job-1; Ctrl-C again leaves it\nstopped\n"


def test_a_second_interrupt_leaves() -> None:
    with start("run", "stubborn") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == b"\n"
        assert b"cancelling" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (stderr, process.returncode) == (b"", 130)


def test_a_reader_that_goes_away_is_no_complaint() -> None:
    with start("run", "flood") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"x"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_the_command_line_does_without_inspect() -> None:
    code = (
        "import sys; from remoterun.cli import main; main(['ls', '--on', 'none://']); print('msgspec' in sys.modules, "
    )
    code += "*{'inspect', 'typing_extensions'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, timeout=30)
    assert done.stdout.decode().splitlines()[-1] == "True"


def test_the_way_of_run_imports_little() -> None:
    launch = LAUNCH.replace("sys.exit(main())", "main()\nprint(*sys.modules, sep='\\n', file=sys.stderr)")
    done = subprocess.run(
        command("run", "hello", "name=Ada", launch=launch),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    loaded = set(done.stderr.decode().splitlines())
    heavy = {"asyncio", "pydantic", "rich", "httpx2", "httpx", "click", "sqlalchemy", "ssl", "logging", "subprocess",
             "importlib.metadata", "tomllib", "shutil", "dataclasses", "remoterun.config",
             "remoterun.cli.terminal"}  # fmt: skip
    assert done.stdout == b'{"hello":"Ada"}\n'
    assert "remoterun.client" in loaded
    assert loaded & heavy == set()
