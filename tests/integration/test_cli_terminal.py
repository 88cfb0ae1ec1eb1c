"""`remoterun` on a real terminal: a pseudo-terminal, whose other end the test reads."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.unit.fake_node import LAUNCH, TOKEN


class Screen(NamedTuple):
    """What reached the terminal, and the exit code."""

    data: bytes
    code: int


ROOT = Path(__file__).parent.parent.parent


def on_terminal(
    *words: str, env: Mapping[str, str] | None = None, typed: bytes = b"", after: bytes | None = None
) -> Screen:
    """Run a command line on a terminal of its own; what is `typed` is typed once `after` was seen, at once if None."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("REMOTERUN_", "NO_COLOR"))}
    variables = {"PYTHONPATH": str(ROOT), "REMOTERUN_URL": "fake://here", "REMOTERUN_TOKEN": TOKEN, "TERM": "xterm"}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    login = (
        "import fcntl, os, sys, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", login, LAUNCH, *words],
        env={**kept, **variables, **(env or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        data = b"" if after is None else _read_until(ours, after)
        os.write(ours, typed)
        while chunk := _read(ours):
            data += chunk
    os.close(ours)
    return Screen(data.replace(b"\r\n", b"\n"), process.returncode)


def _read_until(descriptor: int, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        chunk = _read(descriptor)
        assert chunk, f"the terminal closed before {mark!r}: {data!r}"
        data += chunk
    return data


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the last process on the terminal has gone
        return b""


def test_hostile_output_is_shown_harmlessly_and_colours_stay() -> None:
    screen = on_terminal("run", "hostile")
    assert screen.data.decode() == "␛]0;title␇\x1b[31mred\x1b[0m <U+202E>evil\n"
    assert screen.code == 0


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert on_terminal("run", "bytes").data.decode() == "\ufffd␀\ufffd"


def test_no_color_is_honoured() -> None:
    screen = on_terminal("run", "hostile", env={"NO_COLOR": "1"})
    assert screen.data.decode() == "␛]0;title␇red <U+202E>evil\n"
    listed = on_terminal("ls", "h*", env={"NO_COLOR": "1"})
    assert re.search(rb"\x1b\[[0-9;]*3[0-7]", listed.data) is None


def test_progress_is_one_line_that_goes_away() -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal("run", "steps").data.decode())
    erase = "\r\x1b[K"
    first, second = f"{'━' * 6}{'╌' * 18} 1/4 reading␛[2J", f"{'━' * 18}{'╌' * 6} 3/4"
    assert text.startswith(f"{erase}{first}{erase}half\n{erase}{second}")
    assert text.endswith(f" reading␛[2J{erase}[1,2]\n")


def test_a_terminal_is_not_read_unless_that_was_said() -> None:
    assert on_terminal("run", "echo").data == b"to stderr\n"
    screen = on_terminal("run", "echo", "--stdin", typed=b"line\n\x04")
    assert screen.data.startswith(b"line\nline\n")


def test_ctrl_c_cancels_the_job() -> None:
    screen = on_terminal("run", "waits", typed=b"\x03", after=b"started")
    assert screen.code == 130
    assert screen.data.endswith(b"remoterun: cancelling job job-1; Ctrl-C again leaves it\nstopped\n")


def test_a_table_is_for_people() -> None:
    text = on_terminal("ls", "h*").data.decode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert plain.split("\n")[0].split() == ["NAME", "PARAMETERS", "DESCRIPTION"]
    assert 'name [times=1] [tone="warm"]' in plain


def test_an_error_of_someone_elses_words_is_harmless() -> None:
    screen = on_terminal("job", "\x1b]0;title\x07")
    assert screen.data.decode() == "remoterun: there is no job ␛]0;title␇\n"
    assert screen.code == 125
