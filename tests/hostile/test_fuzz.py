"""Garbage at every port and in the folder of scripts, and the whole life of jobs against a model."""

from __future__ import annotations

import contextlib
import http.client
import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from remoterun.client import JobHandle
from remoterun.errors import Conflict, JobFailed, ServiceError
from remoterun.messages import StateEvent
from remoterun.states import FINAL, State
from remoterun.testing import RunningNode, running_node
from remoterun_socket.protocol import NOTHING, ErrorReply, ReplyReader
from tests.hostile.harness import SCALE, SCRIPTS, address, dial, eventually, read_to_end, resp, sized

# No database of examples: what is found is kept as a test of its own.
GARBAGE = settings(
    max_examples=sized(300),
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PATIENCE = 20.0 * max(1.0, SCALE)  # seconds of garbage at one port

WORDS = st.sampled_from(
    [
        "AUTH",
        "HELLO",
        "PING",
        "INFO",
        "SCRIPTS",
        "SCRIPT",
        "JOB",
        "JOBS",
        "WAIT",
        "OUTPUT",
        "EVENTS",
        "CANCEL",
        "COMMAND",
        "CLIENT",
        "ARTIFACT",
        "RERUN",
        "RUN",
        "SUBMIT",
        "TIMEOUT",
        "KEY",
        "STDIN",
        "LIMIT",
        "STATE",
        "AFTER",
        "0",
        "-1",
        "1",
        "9999999999999999999999",
        "nan",
        "hello",
        "no/such",
        "../hello",
        "name=x",
        "name:=[",
        "--",
        "x=y",
    ]
)
TEXTS = st.one_of(
    WORDS.map(str.encode), st.binary(max_size=40), st.text(max_size=20).map(lambda t: t.encode("utf-8", "replace"))
)
COMMANDS = st.lists(TEXTS, min_size=1, max_size=6).map(lambda words: resp(*words))
LINES = st.lists(TEXTS, max_size=5).map(lambda words: b" ".join(words) + b"\r\n")
HEADERS = st.sampled_from([b"*%d\r\n" % n for n in (-1, 0, 1, 3, 10**9)] + [b"$%d\r\n" % n for n in (-1, 0, 5, 10**9)])
STREAMS = st.lists(st.one_of(COMMANDS, LINES, HEADERS, st.binary(max_size=60)), max_size=8).map(b"".join)


@pytest.fixture(scope="module")
def scripts() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rrh-") as name:
        folder = Path(name)
        for script in ("hello.py", "gated.py"):
            (folder / script).write_bytes((SCRIPTS / script).read_bytes())
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def node(scripts: Path) -> Iterator[RunningNode]:
    with running_node(scripts, auth_timeout=2, workers=2, log_level="info") as started:
        yield started
        assert "Traceback" not in started.log(), started.log()


class Clock:
    """Ends a test of garbage in good time: examples that come after it are not tried."""

    def __init__(self) -> None:
        self._end = time.monotonic() + PATIENCE

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._end


@pytest.mark.parametrize("proved", [False, True], ids=["stranger", "caller"])
def test_garbage_at_the_socket(node: RunningNode, proved: bool, show: Any) -> None:
    clock, tried = Clock(), [0]

    @GARBAGE
    @given(stream=STREAMS)
    def check(stream: bytes) -> None:
        if clock.is_over:
            return
        tried[0] += 1
        with dial(node, "tcp") as line:
            greeting = resp("HELLO", "3", "AUTH", "default", node.token) if proved else b""
            with contextlib.suppress(ConnectionError):
                line.sendall(greeting + stream + b"\r\n" + resp("QUIT"))
                line.shutdown(1)
            _check_replies(read_to_end(line), proved)
        with node.connect() as client:
            assert client.run("hello") == {"hello": "world"}

    check()
    show(f"{tried[0]} streams of garbage")


def _check_replies(data: bytes, proved: bool) -> None:
    """Whatever was sent, what comes back is RESP, or the page for browsers; no defect, and no job for a stranger."""
    assert b"defect" not in data, data
    if data.startswith(b"HTTP/1.1 "):
        return
    if not proved:
        assert b'"hello":' not in data
    replies = ReplyReader()
    replies.feed(data)
    while (reply := replies.next()) is not NOTHING:
        assert not (isinstance(reply, ErrorReply) and "internal" in str(reply).lower()), reply


METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
PARTS = st.one_of(
    st.sampled_from(
        [
            "run",
            "jobs",
            "scripts",
            "hello",
            "gated",
            "output",
            "events",
            "artifacts",
            "cancel",
            "rerun",
            "livez",
            "readyz",
            "metrics",
            "openapi.json",
            "..",
            "%",
            "%00",
            "%2e%2e",
        ]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12),
    st.binary(max_size=6).map(lambda b: "".join(f"%{c:02x}" for c in b)),
)
PATHS = st.lists(PARTS, max_size=4).map(lambda parts: "/" + "/".join(parts))
NAMES = st.sampled_from(
    [
        "Content-Type",
        "Accept",
        "Prefer",
        "Idempotency-Key",
        "Last-Event-ID",
        "Range",
        "If-None-Match",
        "Host",
        "Origin",
        "traceparent",
        "Expect",
        "Transfer-Encoding",
        "X",
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data;",
            "multipart/form-data;boundary=x",
            "wait=5",
            "respond-async",
            "text/event-stream",
            "evil.example",
            "http://evil.example",
            "null",
            "chunked",
            "100-continue",
            "-1",
            "bytes=0-",
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30),
)
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["name", "script", "params", "args", "stdin", "stdin_base64", "timeout", "key", "trace", "x"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)
BODIES = st.one_of(JSONS.map(lambda value: json.dumps(value).encode()), st.binary(max_size=200), st.just(b""))


@pytest.mark.parametrize("proved", [False, True], ids=["stranger", "caller"])
def test_garbage_over_http(node: RunningNode, proved: bool, show: Any) -> None:
    clock, tried = Clock(), [0]

    @GARBAGE
    @given(method=METHODS, path=PATHS, headers=st.dictionaries(NAMES, VALUES, max_size=4), body=BODIES)
    def check(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        if clock.is_over or "gated" in path:
            return
        tried[0] += 1
        if proved:
            headers = {**headers, "Authorization": f"Bearer {node.token}"}
        status, text = _request(node, method, path, headers, body)
        if status >= 500:  # of those, only a job's own failure, and what cannot be done at all
            assert status in (503,) or b'"job"' in text, (status, text)
        assert b"Traceback" not in text or b'"job"' in text
        if not proved and path.startswith(("/run", "/jobs")):
            assert status >= 300 or method == "OPTIONS", (status, text)

    check()
    show(f"{tried[0]} requests of garbage")


def _request(node: RunningNode, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address(node.urls["http"]), timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value.strip().encode("latin-1"))
        if "Transfer-Encoding" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read(65536)
    except (http.client.RemoteDisconnected, ConnectionError):
        return 400, b""  # it was cut off, as whoever sends half a request is
    finally:
        connection.close()


SOURCES = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(
        st.sampled_from(
            [
                "# /// script",
                "# ///",
                "#",
                "# [tool.remoterun]",
                '# isolation = "warm"',
                "# timeout = -1",
                "# memory = 1e400",
                '# timeout = "9999999999999d"',
                "# preload = [1]",
                "# dependencies = [",
                '# requires-python = ">=99"',
                "# x = 1",
                "def main(",
                "def main(x: int = 3): return x",
                "def main(*, y: 'Nowhere' = 1): pass",
                "async def main(): pass",
                "main = 3",
                "class main: pass",
                "import nothing_of_this_name",
                "raise SystemExit(3)",
                "\x00",
                "\ufeff",
                "é",
                "from __future__ import annotations",
                "def main(x: list[dict[str, 'main']] = []): pass",
                "lambda: (yield)",
                "def main(self, /, *args, **kwargs): pass",
                '"""',
                "@",
                "def main(x=1" + "(" * 150,
                "x = " + "-" * 3000 + "1",
            ]
        ),
        max_size=9,
    ).map(lambda lines: "\n".join(lines).encode()),
)


def test_garbage_in_the_folder(node: RunningNode, scripts: Path, show: Any) -> None:
    clock, tried, broken = Clock(), [0], [0]

    @GARBAGE
    @given(source=SOURCES)
    def check(source: bytes) -> None:
        if clock.is_over:
            return
        tried[0] += 1
        path = scripts / f"fuzzed_{tried[0]}.py"
        path.write_bytes(source)
        path.chmod(0o644)
        with node.connect() as client:
            info = eventually(lambda: _described(client, path.stem), "the script is found")
            broken[0] += info.broken is not None
            with contextlib.suppress(ServiceError, JobFailed):
                client.script(path.stem, timeout=5).run()
            assert client.run("hello") == {"hello": "world"}
        path.unlink()

    check()
    show(f"{tried[0]} files of garbage, {broken[0]} of them refused with a reason")


def _described(client: Any, name: str) -> Any:
    try:
        return client.describe(name)
    except ServiceError as error:
        if error.code != "not_found":
            raise
        return None


class LifeOfJobs(RuleBasedStateMachine):
    """Do what callers and operators may do, in any order, and hold the node to a model of it."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.place = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rrh-")))
        self.gates: dict[str, Path] = {}  # of jobs that wait for a file
        self.expected: dict[str, State | None] = {}  # how a job that ended did; None: not known yet
        self.keys: dict[str, tuple[str, str]] = {}  # key → name that it was called with, job
        self.steps = 0

    @initialize()
    def start(self) -> None:
        settings: dict[str, Any] = {"data": self.place / "data", "workers": 2, "cancel_grace": "200ms"}
        self.node = self._stack.enter_context(running_node(SCRIPTS, **settings))

    def teardown(self) -> None:
        for gate in self.gates.values():
            gate.touch()
        if hasattr(self, "node"):
            with self.node.connect() as client:
                for job_id in self.expected:
                    job = client.session.wait(job_id, 30)
                    assert job.has_ended, job
                    events = list(client.session.events(job_id))
                    assert [event.n for event in events] == list(range(1, len(events) + 1))
                    assert isinstance(events[-1], StateEvent)
                    assert events[-1].final
                    assert sum(isinstance(event, StateEvent) and event.final for event in events) == 1
        self._stack.close()
        STEPS.append(self.steps)

    @rule(target=jobs, wire=st.sampled_from(("tcp", "unix", "http", "rpyc", "zmq")), name=st.sampled_from("abc"))
    def submit(self, wire: str, name: str) -> str:
        with self.node.connect(wire) as client:
            job = client.submit("hello", name=name)
        self.expected[job.id] = State.SUCCEEDED
        return job.id

    @rule(target=jobs, wire=st.sampled_from(("tcp", "unix", "http", "rpyc", "zmq")))
    def submit_gated(self, wire: str) -> str:
        gate = self.place / uuid.uuid4().hex
        with self.node.connect(wire) as client:
            job = client.submit("gated", gate=str(gate))
        self.gates[job.id] = gate
        self.expected[job.id] = None
        return job.id

    @rule(wire=st.sampled_from(("tcp", "unix", "http", "rpyc", "zmq")), name=st.sampled_from("abc"))
    def run(self, wire: str, name: str) -> None:
        if self._open_gates() >= 2:
            return  # every worker waits
        with self.node.connect(wire) as client:
            assert client.run("hello", name=name) == {"hello": name}

    def _open_gates(self) -> int:
        return sum(not gate.exists() and self.expected[job_id] is None for job_id, gate in self.gates.items())

    @rule(target=jobs, key=st.sampled_from(("k1", "k2", "k3")), name=st.sampled_from("ab"))
    def submit_with_key(self, key: str, name: str) -> str:
        with self.node.connect() as client:
            known = self.keys.get(key)
            if known is not None and known[0] != name:
                with pytest.raises(Conflict):
                    client.script("hello", key=key).submit(name=name)
                return known[1]
            job = client.script("hello", key=key).submit(name=name)
        assert known is None or known[1] == job.id
        self.keys[key] = name, job.id
        self.expected[job.id] = State.SUCCEEDED
        return job.id

    @rule(job_id=jobs)
    def open_gate(self, job_id: str) -> None:
        if job_id in self.gates:
            self.gates[job_id].touch()

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        with self.node.connect() as client:
            before = client.session.get_job(job_id)
            job = client.session.cancel(job_id)
        assert job.has_ended
        if before.has_ended:
            assert job == before
        if job.state is State.CANCELLED:
            self.expected[job_id] = State.CANCELLED

    @rule(job_id=jobs)
    def wait(self, job_id: str) -> None:
        if self._open_gates() >= 2 or (job_id in self.gates and not self.gates[job_id].exists()):
            return
        with self.node.connect() as client:
            job = client.session.wait(job_id, 30)
        assert job.has_ended, job
        expected = self.expected[job_id]
        possible = {State.SUCCEEDED, State.LOST, State.CANCELLED} if expected is None else {expected, State.LOST}
        assert job.state in possible, job
        self.expected[job_id] = job.state

    @rule(target=jobs, job_id=jobs)
    def rerun(self, job_id: str) -> str:
        with self.node.connect() as client:
            old = client.session.get_job(job_id)
            if not old.has_ended:
                with pytest.raises(Conflict):
                    client.session.rerun(job_id)
                return job_id
            job = JobHandle(client.session, client.session.rerun(job_id))
        assert job.job.rerun_of == job_id
        self.expected[job.id] = None if job_id in self.gates else State.SUCCEEDED
        if job_id in self.gates:
            self.gates[job.id] = self.gates[job_id]
        return job.id

    @rule(job_id=jobs)
    def get(self, job_id: str) -> None:
        with self.node.connect() as client:
            job = client.session.get_job(job_id)
        expected = self.expected[job_id]
        if expected in FINAL and job.has_ended:
            assert job.state in (expected, State.LOST)

    @rule()
    def kill(self) -> None:
        self.node.kill()
        self.node.start()

    @rule()
    def restart(self) -> None:
        for gate in self.gates.values():
            gate.touch()  # a stopping node waits for what runs
        assert self.node.stop() == 0
        self.node.start()

    @invariant()
    def holds_every_job(self) -> None:
        self.steps += 1
        if hasattr(self, "node"):
            with self.node.connect() as client:
                assert self.expected.keys() <= {job.id for job in client.jobs()}


STEPS: list[int] = []


@pytest.mark.timeout(600)
def test_the_life_of_jobs(show: Any) -> None:
    run_state_machine_as_test(
        LifeOfJobs,
        settings=settings(
            max_examples=sized(10),
            stateful_step_count=50,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
    show(f"{len(STEPS)} lives of a node, {sum(STEPS)} steps")
