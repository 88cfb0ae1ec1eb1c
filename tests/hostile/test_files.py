"""Hostile files: what scripts leave as artifacts, and what callers send. Refused or cut; the node unharmed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from remoterun.messages import Job, OutputEvent
from remoterun.states import State
from remoterun.testing import RunningNode, running_node
from tests.hostile.harness import MIB, SCRIPTS, eventually, sized

TAKES = """\
from pathlib import Path
from typing import Annotated

from remoterun import script


def main(data: Annotated[Path, script.Upload], more: list[Annotated[Path, script.Upload]] = []) -> int:
    return data.stat().st_size
"""
TIMEOUT = 1  # seconds of http.request_timeout


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    more = tmp_path_factory.mktemp("scripts")
    (more / "takes.py").write_text(TAKES)
    with running_node(
        [SCRIPTS, more],
        data=tmp_path_factory.mktemp("data"),
        workers=2,
        http={"request_timeout": f"{TIMEOUT}s"},
        limits={"upload": "4MiB", "artifact_count": 100},
    ) as node:
        yield node


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Give a file that is none of the job's."""
    path = tmp_path / "secret.txt"
    path.write_text("a secret of somebody else's")
    return path


def memory_of(node: RunningNode) -> int:
    lines = Path(f"/proc/{node.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def left_by(node: RunningNode, what: str, **params: Any) -> Job:
    """Run the script, check that the node is unharmed, and give the job."""
    with node.connect() as client:
        job = client.submit("leaves_behind", what=what, **params).wait(120)
        assert client.run("hello", name="after") is not None
        for artifact in job.artifacts:
            data = client.job(job.id).artifact(artifact.name).read()
            assert len(data) == artifact.size
            assert b"secret" not in data
    assert job.state is State.SUCCEEDED, job.error
    return job


@pytest.mark.parametrize("what", ["links", "devices"])
def test_only_regular_files_are_kept(node: RunningNode, outside: Path, what: str) -> None:
    job = left_by(node, what, outside=str(outside))
    assert [artifact.name for artifact in job.artifacts] == ["honest.txt"]
    kept = [*(node.data / "artifacts" / job.id).rglob("*")]
    assert [path.name for path in kept] == ["honest.txt"]
    assert outside.read_text() == "a secret of somebody else's"


@pytest.mark.parametrize("what", ["swapped", "moved"])
def test_a_folder_that_became_a_link_is_not_followed(node: RunningNode, outside: Path, what: str) -> None:
    (outside.parent / "artifacts").mkdir()
    (outside.parent / "artifacts" / "secret.txt").write_text("a secret of somebody else's")
    (outside.parent / "result").write_text('"a secret of somebody else\'s"')
    job = left_by(node, what, outside=str(outside))
    assert len([*outside.parent.rglob("*")]) == 4, "what lies there is left alone"
    assert job.result == len(what)
    assert job.artifacts == ()
    assert outside.read_text() == "a secret of somebody else's"


def test_names_are_printable_and_stay_below(node: RunningNode) -> None:
    names = {artifact.name for artifact in left_by(node, "names").artifacts}
    assert names == {"honest.txt", "x" * 255, "-rf", " ", "%2e%2e"}


def test_depth_is_bounded(node: RunningNode) -> None:
    names = [artifact.name for artifact in left_by(node, "deep", count=500).artifacts]
    assert 5 < len(names) < 30
    assert max(name.count("/") for name in names) < 20


def test_a_sparse_file_of_10_gib_is_refused(node: RunningNode) -> None:
    job = left_by(node, "sparse")
    assert sum(artifact.size for artifact in job.artifacts) < MIB
    assert "limits.artifacts" in _stderr(node, job)
    assert not [*(node.data / "artifacts" / job.id).rglob("sparse")]


def test_a_folder_that_cannot_be_read_harms_nobody(node: RunningNode) -> None:
    job = left_by(node, "closed")
    assert len(job.artifacts) <= 1  # root reads it all the same


def test_many_files_are_cut(node: RunningNode, show: Callable[[str], None]) -> None:
    count = sized(20_000)  # a million at scale 50
    before = memory_of(node)
    job = left_by(node, "many", count=count)
    assert len(job.artifacts) == 100
    assert "limits.artifact_count" in _stderr(node, job)
    assert memory_of(node) - before < 64 * MIB
    show(f"{count} files left, {len(job.artifacts)} kept")


def _stderr(node: RunningNode, job: Job) -> str:
    with node.connect() as client:
        events = [event for event in client.job(job.id).events() if isinstance(event, OutputEvent)]
        return b"".join(event.raw() for event in events if event.stream == "stderr").decode()


class Caller:
    """A raw HTTP connection that sends what it likes."""

    def __init__(self, node: RunningNode) -> None:
        address = urlsplit(node.urls["http"])
        self._token = node.token
        self._line = socket.create_connection((address.hostname, address.port or 0), timeout=60)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def begin(self, length: int | None, path: str = "/run/takes") -> None:
        """Send the head of a form; without a length, in chunks."""
        size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._token}\r\n{size}\r\n"
            "Content-Type: multipart/form-data; boundary=XX\r\n\r\n"
        )
        self._line.sendall(head.encode())

    def send(self, data: bytes) -> bool:
        """Send bytes; False where the node takes no more."""
        try:
            self._line.sendall(data)
        except OSError:
            return False
        return True

    def chunk(self, data: bytes) -> bool:
        return self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def answer(self) -> bytes:
        """Give all that the node says until it closes, or has said it all."""
        received = b""
        try:
            while b"\r\n\r\n" not in received and (piece := self._line.recv(65536)):
                received += piece
        except OSError:
            pass
        return received


FILE = b'--XX\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\n'
END = b"\r\n--XX--\r\n"


def nothing_arrives(node: RunningNode) -> None:
    folder = node.data / "uploads" / "incoming"
    eventually(lambda: not any(folder.iterdir()), "what nobody took is removed")


def test_an_endless_upload_is_cut_off(node: RunningNode, show: Callable[[str], None]) -> None:
    before = memory_of(node)
    with Caller(node) as caller:
        caller.begin(None)
        caller.chunk(FILE)
        sent = 0
        while sent < 100 * MIB and caller.chunk(bytes(65536)):
            sent += 65536
        answer = caller.answer()
    assert sent < 100 * MIB or b"413" in answer[:20]
    assert memory_of(node) - before < 32 * MIB
    nothing_arrives(node)
    show(f"cut off after {sent / MIB:.0f} MiB")


@pytest.mark.parametrize(
    ("length", "body"),
    [
        (10**12, FILE),
        (len(FILE) + 10, FILE + b"only"),
        (len(FILE) + 1, FILE + b"x" + END),
        (10, FILE + b"x" + END),
        (5 * MIB + 100, FILE + bytes(5 * MIB) + END),
        (len(FILE * 2) + 2 + len(END), FILE + b"1\r\n" + FILE + END),
    ],
    ids=["claims a terabyte", "too short", "cut", "claims less", "too large", "twice"],
)
def test_a_wrong_upload_is_refused_and_leaves_nothing(node: RunningNode, length: int, body: bytes) -> None:
    with node.connect() as client:
        jobs = len([*client.jobs(script="takes")])
        with Caller(node) as caller:
            caller.begin(length)
            caller.send(body)
            answer = caller.answer()
        assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.1 413", b"HTTP/1.1 422"), answer
        nothing_arrives(node)
        assert len([*client.jobs(script="takes")]) == jobs, "nothing ran"


def test_callers_who_stall_or_leave_in_the_middle_leave_nothing(node: RunningNode) -> None:
    count = sized(20)
    stalled = [Caller(node) for _ in range(count)]
    try:
        for caller in stalled:
            caller.begin(MIB)
            caller.send(FILE + bytes(100_000))
        for _ in range(count):
            with Caller(node) as caller:
                caller.begin(MIB)
                caller.send(FILE + bytes(100_000))
        for caller in stalled:
            assert caller.answer()[:12] in (b"", b"HTTP/1.1 408")
    finally:
        for caller in stalled:
            caller.__exit__()
    nothing_arrives(node)
    with node.connect("http") as client:
        assert client.run("hello", name="after") is not None


def test_an_upload_that_keeps_coming_may_take_longer_than_other_requests(node: RunningNode) -> None:
    size = 3 * MIB
    with Caller(node) as caller:
        caller.begin(len(FILE) + size + len(END))
        caller.send(FILE)
        for _ in range(size // 65536):
            caller.send(bytes(65536))
            _pause(TIMEOUT / 20)
        caller.send(END)
        assert caller.answer().startswith(b"HTTP/1.1 200")


def _pause(seconds: float) -> None:
    """Hold a sender up: this is what is tested, and no wait for anything."""
    import time

    time.sleep(seconds)


def test_no_file_leaves_the_jobs_folder(node: RunningNode) -> None:
    names = [b"../../../x", b"/etc/x", b"..", b"a\\..\\..\\x", b"\xff\xfe", b"x" * 3000, b"%2e%2e%2fx", b"con\x7f"]
    before = {path.name for path in node.data.iterdir()}
    for name in names:
        body = FILE.replace(b'"a"', b'"' + name + b'"') + b"x" + END
        with Caller(node) as caller:
            caller.begin(len(body))
            caller.send(body)
            assert caller.answer()[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 422"), name
    assert {path.name for path in node.data.iterdir()} == before
    assert not Path("/etc/x").exists()
    assert not (node.data / "x").exists()
    for folder in (node.data / "uploads").iterdir():
        assert all(len(path.name) == 64 for path in folder.iterdir()), "kept under a hash, whatever it was called"
    nothing_arrives(node)


def test_a_thousand_files_in_one_call_are_refused(node: RunningNode) -> None:
    part = FILE.replace(b'"data"', b'"more"').replace(b'"a"', b'"%d"')
    body = b"\r\n".join([FILE + b"x", *(part % n for n in range(1000))]) + END
    with Caller(node) as caller:
        caller.begin(len(body))
        caller.send(body)
        assert caller.answer().startswith(b"HTTP/1.1 413")
    nothing_arrives(node)
