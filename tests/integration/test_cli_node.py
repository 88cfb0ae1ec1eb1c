"""The command line against a real node, over its Unix socket and over TCP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remoterun.testing import RunningNode, running_node

SCRIPTS = {
    "hello": "def main(name: str, times: int = 1) -> dict:\n    print('hi')\n    return {'hello': name * times}\n",
    "cat": "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())\nprint(sys.argv[1:], file=sys.stderr)\n",
    "leave": "import sys\nprint('leaving')\nsys.exit(int(sys.argv[1]))\n",
    "boom": "def main() -> None:\n    raise ValueError('no way')\n",
    "hang": "import time\nprint('started')\ntime.sleep(600)\n",
    "die": "import os\nos.kill(os.getpid(), 9)\n",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("scripts")
    for name, text in SCRIPTS.items():
        (folder / f"{name}.py").write_text(text)
    with running_node(folder, data=tmp_path_factory.mktemp("data"), workers=2) as node:
        yield node


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("REMOTERUN_", "NO_COLOR"))}


def command(node: RunningNode, *words: str) -> list[str]:
    launch = "import sys; from remoterun.cli import main; sys.exit(main())"
    return [sys.executable, "-c", launch, "--data", str(node.data), *words]


def remoterun(node: RunningNode, *words: str, **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    kwargs.setdefault("input", b"")
    return subprocess.run(command(node, *words), env=environment(), capture_output=True, timeout=60, **kwargs)


def test_a_result_comes_after_the_output(node: RunningNode) -> None:
    done = remoterun(node, "run", "hello", "name=Ada", "times:=2")
    assert (done.stdout, done.stderr, done.returncode) == (b'hi\n{"hello":"AdaAda"}\n', b"", 0)


def test_bytes_go_through_a_script_unchanged(node: RunningNode) -> None:
    data = bytes(range(256)) * 100
    done = remoterun(node, "run", "cat", "--", "a b", "--x", input=data)
    assert done.stdout == data
    assert done.stderr == b"['a b', '--x']\n"


@pytest.mark.parametrize(("words", "code"), [(("leave", "--", "7"), 7), (("leave", "--", "0"), 0), (("die",), 137)])
def test_the_exit_code_is_the_scripts(node: RunningNode, words: tuple[str, ...], code: int) -> None:
    assert remoterun(node, "run", *words).returncode == code


def test_a_script_that_leaves_says_it_all_itself(node: RunningNode) -> None:
    done = remoterun(node, "run", "leave", "--", "7")
    assert (done.stdout, done.stderr) == (b"leaving\n", b"")


def test_an_exception_shows_its_traceback_once(node: RunningNode) -> None:
    done = remoterun(node, "run", "boom")
    assert (done.returncode, done.stderr.count(b"ValueError: no way")) == (1, 1)
    assert b"boom.py" in done.stderr


def test_a_timeout_is_124(node: RunningNode) -> None:
    done = remoterun(node, "run", "hang", "--timeout", "300ms")
    assert (done.returncode, done.stdout) == (124, b"started\n")
    assert b"timed_out" in done.stderr


def test_bad_parameters_have_a_line_each(node: RunningNode) -> None:
    done = remoterun(node, "run", "hello", "times=x")
    first, *fields = done.stderr.decode().splitlines()
    assert first == "remoterun: bad parameters"
    assert sorted(line.split(":")[0] for line in fields) == ["  name", "  times"]
    assert done.returncode == 125


def test_ctrl_c_cancels_the_job(node: RunningNode) -> None:
    with subprocess.Popen(
        command(node, "run", "hang"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    newest = json.loads(remoterun(node, "jobs", "--script", "hang", "--limit", "1", "--json").stdout)["jobs"][0]
    assert newest["state"] == "cancelled"


def test_a_job_is_submitted_awaited_read_and_run_again(node: RunningNode) -> None:
    job = remoterun(node, "submit", "hello", "name=Ada").stdout.decode().strip()
    assert json.loads(remoterun(node, "wait", job, "--json").stdout)["result"] == {"hello": "Ada"}
    assert remoterun(node, "logs", job).stdout == b"hi\n"
    again = remoterun(node, "rerun", job).stdout.decode().strip()
    assert json.loads(remoterun(node, "wait", again, "--json").stdout)["rerun_of"] == job


def test_a_token_of_the_command_line_opens_the_node(node: RunningNode, tmp_path: Path) -> None:
    made = remoterun(node, "token", "new", "--name", "cli", "--scope", "run:hello", "read")
    (tmp_path / "token").write_bytes(made.stdout)
    words = ("--on", node.urls["tcp"], "--token-file", str(tmp_path / "token"))
    assert remoterun(node, *words, "run", "hello", "name=Ada").returncode == 0
    refused = remoterun(node, *words, "run", "boom")
    assert refused.returncode == 125
    assert made.stdout.strip() not in refused.stderr
    rotated = remoterun(node, "token", "rotate", "cli", "--overlap", "1m", "--expires", "30d")
    assert rotated.stdout.startswith(b"rr_")
    assert rotated.stdout != made.stdout
    assert remoterun(node, "token", "list").stdout.count(b"cli ") == 2
    for token in (made.stdout, rotated.stdout):
        (tmp_path / "token").write_bytes(token)
        assert remoterun(node, *words, "ls").returncode == 0
    assert remoterun(node, "token", "rotate").returncode == 125
    assert remoterun(node, "token", "revoke", "cli").returncode == 0
