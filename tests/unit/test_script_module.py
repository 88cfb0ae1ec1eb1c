"""remoterun.script, as a running script uses it: inside a node, outside one, in a warm process, after a fork."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from remoterun import script

STANDARD_LIBRARY_ONLY = """
import sys
before = {*sys.modules}  # a distribution's sitecustomize, and what installed packages load at every start
from remoterun import script
script.progress(1, 2)
third_party = {name.partition(".")[0] for name in {*sys.modules} - before} - set(sys.stdlib_module_names)
print(sorted(name for name in third_party if name not in ("__main__", "__mp_main__") and not name.startswith("_")))
"""


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PROGRESS", "ARTIFACTS", "RESULT", "JOB", "ATTEMPT"):
        monkeypatch.delenv(f"REMOTERUN_{name}", raising=False)
    monkeypatch.delenv("TRACEPARENT", raising=False)
    monkeypatch.chdir(tmp_path)


class Pipe:
    """A FIFO as a node keeps it: open for reading before the script writes."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> list[dict[str, Any]]:
        data = b""
        try:
            while piece := os.read(self.fd, 65536):
                data += piece
        except BlockingIOError:
            pass
        return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "progress")
    monkeypatch.setenv("REMOTERUN_PROGRESS", str(pipe.path))
    monkeypatch.setenv("REMOTERUN_JOB", "job-1")
    yield pipe
    os.close(pipe.fd)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves."""
    clock = [1000.0]
    monkeypatch.setattr("remoterun.script.time.monotonic", lambda: clock[0])
    return clock


def test_progress_is_one_json_line(pipe: Pipe) -> None:
    script.progress(1, 4, "reading")
    assert pipe.read() == [{"done": 1, "total": 4, "message": "reading"}]


def test_an_inner_loop_is_thinned_out_and_its_end_is_told(pipe: Pipe, still: list[float]) -> None:
    for done in range(1, 1001):
        still[0] += 0.001
        script.progress(done, 1000)
    lines = pipe.read()
    assert lines[0]["done"] == 1
    assert lines[-1]["done"] == 1000
    assert 19 <= len(lines) <= 22


def test_a_new_message_is_told_at_once(pipe: Pipe, still: list[float]) -> None:
    for step, message in enumerate(["reading", "sorting", "writing"]):
        script.progress(step, 3, message)
        script.progress(step, 3, message)
    assert [line["message"] for line in pipe.read()] == ["reading", "sorting", "writing"]


def test_a_flood_of_new_messages_is_thinned_out(pipe: Pipe, still: list[float]) -> None:
    for step in range(1000):
        script.progress(step, None, f"file {step}")
    assert 20 <= len(pipe.read()) <= 22


@pytest.mark.parametrize("message", ["x" * 10_000, "\0" * 10_000, "💡" * 10_000, "\ud800", "two\nlines"])
def test_a_line_is_never_longer_than_a_pipe_takes_at_once(pipe: Pipe, message: str) -> None:
    script.progress(2**63, 2.5e300, message)
    data = os.read(pipe.fd, 65536)
    assert len(data) <= 4096
    assert data.count(b"\n") == 1
    assert json.loads(data)["done"] == 2**63


def test_numbers_that_are_none_are_refused(pipe: Pipe) -> None:
    with pytest.raises(ValueError, match="finite"):
        script.progress(float("nan"))
    with pytest.raises(ValueError, match="finite"):
        script.progress(1, float("inf"))
    assert pipe.read() == []


def test_a_full_pipe_does_not_hold_the_script_up(pipe: Pipe) -> None:
    for _ in range(1000):
        script.progress(1, 1, "x" * 600)  # the end is told each time: more than the pipe's 64 KiB
    assert pipe.read()
    script.progress(2, 2)
    assert pipe.read() == [{"done": 2, "total": 2, "message": None}]


@pytest.mark.parametrize("what", ["missing", "no reader"])
def test_a_pipe_that_nobody_reads_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    path = tmp_path / "unread"
    if what == "no reader":
        os.mkfifo(path)
    monkeypatch.setenv("REMOTERUN_PROGRESS", str(path))
    script.progress(1, 2)
    script.progress(2, 2)
    assert path.exists() == (what == "no reader")


def test_a_reader_that_goes_away_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe(tmp_path / "progress")
    monkeypatch.setenv("REMOTERUN_PROGRESS", str(pipe.path))
    script.progress(1, 3)
    os.close(pipe.fd)
    script.progress(2, 3, "news")
    script.progress(3, 3)


def test_a_warm_process_carries_nothing_into_the_next_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipe: Pipe, still: list[float]
) -> None:
    script.progress(1, 3, "first job")
    before = open_files()
    second = Pipe(tmp_path / "second")
    monkeypatch.setenv("REMOTERUN_PROGRESS", str(second.path))
    monkeypatch.setenv("REMOTERUN_JOB", "job-2")
    script.progress(1, 3, "first job")
    assert [line["message"] for line in second.read()] == ["first job"]
    os.close(second.fd)
    assert open_files() == before
    assert len(pipe.read()) == 1


def test_a_pipe_made_anew_under_the_same_name_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipe: Pipe
) -> None:
    script.progress(1, 2)
    pipe.path.unlink()
    again = Pipe(pipe.path)
    monkeypatch.setenv("REMOTERUN_JOB", "job-2")
    script.progress(1, 2)
    assert len(again.read()) == 1
    os.close(again.fd)


def test_progress_survives_a_fork(pipe: Pipe) -> None:
    script.progress(1, 3, "parent")
    pid = os.fork()
    if pid == 0:
        script.progress(2, 3, "child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    script.progress(3, 3, "parent again")
    assert [line["message"] for line in pipe.read()] == ["parent", "child", "parent again"]


def test_a_child_does_not_inherit_the_pipe(pipe: Pipe) -> None:
    script.progress(1, 3)
    listing = subprocess.run(
        [sys.executable, "-c", "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in (3, 4, 5, 6, 7, 8, 9)"
         " if os.path.exists(f'/proc/self/fd/{n}')])"],
        capture_output=True, text=True, check=True, close_fds=False,
    )  # fmt: skip
    assert str(pipe.path) not in listing.stdout


def test_outside_a_node_progress_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    script.progress(1, 2, "reading")
    assert capfd.readouterr() == ("", "")


def test_outside_a_node_progress_shows_on_a_terminal() -> None:
    code = "from remoterun import script; script.progress(1, 2, 'reading'); script.progress(2, 2, 'a\\nb')"
    leader, follower = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=follower, check=True)
    os.close(follower)
    shown = read_all(leader)
    os.close(leader)
    assert shown == b"\r1/2 reading\x1b[K\r2/2 a b\x1b[K\r\n"


def read_all(fd: int) -> bytes:
    data = b""
    with suppress(OSError):  # EIO: how Linux says that the other end of a terminal is closed
        while piece := os.read(fd, 4096):
            data += piece
    return data


def test_track_counts_what_has_a_length(pipe: Pipe, still: list[float]) -> None:
    for _ in script.track(["a", "b"], message="reading"):
        still[0] += 1
    assert [(line["done"], line["total"]) for line in pipe.read()] == [(0, 2), (1, 2), (2, 2)]


def test_track_finds_the_total_of_what_has_no_length_at_its_end(pipe: Pipe, still: list[float]) -> None:
    assert list(script.track(iter("abc"))) == ["a", "b", "c"]
    lines = pipe.read()
    assert lines[0] == {"done": 0, "total": None, "message": None}
    assert lines[-1] == {"done": 3, "total": 3, "message": None}


def test_artifact_gives_a_path_in_the_jobs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTERUN_ARTIFACTS", str(tmp_path / "artifacts"))
    script.artifact("pages/1/index.html").write_text("hi")
    assert (tmp_path / "artifacts/pages/1/index.html").read_text() == "hi"


def test_outside_a_node_an_artifact_goes_to_the_current_folder(tmp_path: Path) -> None:
    assert script.artifact("plot.png") == tmp_path / "plot.png"


@pytest.mark.parametrize("name", ["", ".", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "folder/", "a\0b"])
def test_a_name_that_leaves_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no artifact's name"):
        script.artifact(name)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    monkeypatch.setenv("REMOTERUN_ARTIFACTS", str(folder))
    with pytest.raises(ValueError, match="through a link"):
        script.artifact("out/x")


def test_job_tells_what_the_node_set(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    monkeypatch.setenv("REMOTERUN_JOB", "0192")
    monkeypatch.setenv("REMOTERUN_ATTEMPT", "2")
    monkeypatch.setenv("TRACEPARENT", trace)
    assert script.job() == ("0192", 2, trace)


def test_outside_a_node_there_is_no_job() -> None:
    assert script.job() == script.JobInfo(id=None, attempt=1, trace=None)


def test_a_result_replaces_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result.json"
    monkeypatch.setenv("REMOTERUN_RESULT", str(target))
    script.result({"done": False})
    script.result({"done": True, "name": "Zoë"})
    assert json.loads(target.read_bytes()) == {"done": True, "name": "Zoë"}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), Path("x")])
def test_a_result_that_json_cannot_say_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    target = tmp_path / "result.json"
    monkeypatch.setenv("REMOTERUN_RESULT", str(target))
    script.result("kept")
    with pytest.raises((TypeError, ValueError)):
        script.result(value)
    assert json.loads(target.read_bytes()) == "kept"


def test_outside_a_node_a_result_goes_nowhere(tmp_path: Path) -> None:
    script.result({"done": True})
    assert list(tmp_path.iterdir()) == []


def test_importing_it_loads_the_standard_library_alone() -> None:
    loaded = subprocess.run([sys.executable, "-c", STANDARD_LIBRARY_ONLY], capture_output=True, text=True, check=True)
    assert loaded.stdout == "['remoterun']\n"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
