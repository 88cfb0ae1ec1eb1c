"""Both ends of a queue around a lossy line in memory: what is lost, doubled or cut changes nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remoterun.access import Tokens
from remoterun.errors import Busy, Forbidden, Invalid, NotFound, ServiceError, Unauthenticated, Unavailable
from remoterun.messages import JobQuery, JobRequest, OutputEvent
from remoterun.service import AsyncService, AsyncSession, BlockingService, Credential, Origin, Session, Token
from remoterun.states import State
from remoterun.testing import dispatcher_node
from remoterun_queue import conversation, streams
from remoterun_queue.answering import Answering
from remoterun_queue.conversation import QueueService
from remoterun_queue.exchange import Exchange, Gone
from remoterun_queue.line import Line

SCRIPT = """
# /// script
# [tool.remoterun]
# timeout = "60s"
# ///
import os, time
from pathlib import Path
from remoterun import script


def main(gate: str = "", journal: str = "", lines: int = 0, big: int = 0) -> str:
    if journal:
        with open(journal, "a") as file:
            file.write(os.environ["REMOTERUN_JOB"] + "\\n")
    for number in range(lines):
        print(number, flush=True)
        time.sleep(0.002)
    if big:
        script.artifact("big.bin").write_bytes(bytes(range(256)) * (big // 256))
    while gate and not Path(gate).exists():
        time.sleep(0.005)
    return "done"
"""

Fault = Callable[[dict[str, Any]], int]  # a message → how many of it arrive


def nothing_is_lost(message: dict[str, Any]) -> int:
    return 1


class Parcel(Exchange):
    """A message of a queue in memory."""

    def __init__(self, reader: Callable[[bytes], None] | None, is_kept: bool = True) -> None:
        super().__init__(reader, is_kept=is_kept)
        self.send = reader
        self.settled: list[str] = []
        self.is_settled = threading.Event()
        self.answers: list[dict[str, Any]] = []

    async def _accept(self) -> None:
        self.settled.append("accepted")
        self.is_settled.set()

    async def _refuse(self, error: ServiceError) -> None:
        self.settled.append(error.code)
        self.is_settled.set()

    async def answer(self, body: bytes) -> None:
        if self.send is None:
            raise Gone("nobody")
        self.answers.append(json.loads(body))
        self.send(body)


class MemoryLine(Line):
    """A line to a node in this process that loses and doubles what its faults say."""

    address = "memory://here"

    def __init__(self, deliver: Callable[[Parcel, bytes, str | None], None]) -> None:
        self._deliver = deliver
        self.on_the_way_there: Fault = nothing_is_lost
        self.on_the_way_back: Fault = nothing_is_lost
        self.parcels: list[Parcel] = []

    def send(self, body: bytes, request_id: str, key: str | None) -> None:
        for _ in range(self.on_the_way_there(json.loads(body))):
            parcel = Parcel(self.come_back)
            self.parcels.append(parcel)
            self._deliver(parcel, body, key)

    def come_back(self, body: bytes) -> None:
        for _ in range(self.on_the_way_back(json.loads(body))):
            self.received(body)

    def close(self) -> None:
        return


class _Node(AsyncService):
    def __init__(self, context: Any, node: Any) -> None:
        self.context = context
        self.node = node

    async def authenticate(self, credential: Credential, origin: Origin) -> AsyncSession:
        return await self.node.dispatcher.authenticate(credential, origin)  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        await self.context.__aexit__(None, None, None)


class Place:
    """A node behind a queue in memory."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        scripts = folder / "scripts"
        scripts.mkdir()
        (scripts / "job.py").write_text(SCRIPT)
        self.data = folder / "data"
        self.answering: Answering

        async def start() -> AsyncService:
            chosen = {"workers": 2, "principals": {"publisher": {"scopes": ["run", "read:all"]}}, **settings}
            context = dispatcher_node(scripts, data=self.data, **chosen)
            node = await context.__aenter__()
            self.answering = Answering(node.dispatcher, "memory", principal="publisher", largest=100_000)
            return _Node(context, node)

        self.service = BlockingService(start, Origin("test"))
        self.loop = self.service._loop

    def deliver(self, parcel: Parcel, body: bytes, key: str | None = None) -> None:
        self.loop.call_soon_threadsafe(lambda: self.answering.start(parcel, body, key=key))

    def send(self, parcel: Parcel, **message: Any) -> Parcel:
        key = message.pop("key_property", None)
        self.deliver(parcel, json.dumps(message).encode(), key)
        return parcel

    def line(self) -> MemoryLine:
        return MemoryLine(self.deliver)

    def session(self, line: MemoryLine, *scopes: str) -> Session:
        token = Tokens(self.data).new(f"t{time.monotonic_ns()}", scopes or ("admin",))
        return QueueService(line, 0.5).authenticate(Token(token))

    def close(self) -> None:
        self.service.call(self.answering.stop(0))
        self.service.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    opened = Place(tmp_path, queue=2)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "PATIENCE", 0.3)


def job(**params: Any) -> JobRequest:
    return JobRequest(script="job", params=params)


def first(of: str) -> Fault:
    """Lose the first message that has this member."""
    seen: list[dict[str, Any]] = []

    def fault(message: dict[str, Any]) -> int:
        if (of in message or message.get("op") == of) and not seen:
            seen.append(message)
            return 0
        return 1

    return fault


def lines(path: Path) -> list[str]:
    return path.read_text().split()


@pytest.mark.parametrize("lost", ["run", "job"])
def test_a_run_whose_message_or_answer_is_lost_is_one_job(place: Place, tmp_path: Path, lost: str) -> None:
    line = place.line()
    session = place.session(line)
    line.on_the_way_there = first(lost)
    line.on_the_way_back = first(lost)

    done = session.run(job(journal=str(tmp_path / "journal")))

    assert (done.state, done.result) == (State.SUCCEEDED, "done")
    assert lines(tmp_path / "journal") == [done.id]


def test_who_may_not_read_waits_for_a_run_all_the_same(place: Place, tmp_path: Path) -> None:
    gate, line = tmp_path / "gate", place.line()
    session = place.session(line, "run")
    threading.Timer(1.0, gate.touch).start()  # three times the patience
    done = session.run(job(gate=str(gate), journal=str(tmp_path / "journal")))
    assert done.state is State.SUCCEEDED
    assert lines(tmp_path / "journal") == [done.id]


def test_messages_that_arrive_twice_change_nothing(place: Place, tmp_path: Path) -> None:
    line = place.line()
    session = place.session(line)
    line.on_the_way_there = line.on_the_way_back = lambda message: 2

    done = session.run(job(journal=str(tmp_path / "journal"), lines=20))

    assert lines(tmp_path / "journal") == [done.id]
    numbers = [event.n for event in session.events(done.id)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_line_that_breaks_costs_nothing(place: Place, tmp_path: Path) -> None:
    gate, line = tmp_path / "gate", place.line()
    session = place.session(line)

    def break_it(message: dict[str, Any]) -> int:
        if message.get("op") == "run":
            threading.Timer(0.05, lambda: line.lost("cut")).start()
            threading.Timer(0.2, gate.touch).start()
        return 1

    line.on_the_way_there = break_it
    done = session.run(job(gate=str(gate), journal=str(tmp_path / "journal")))
    assert done.state is State.SUCCEEDED
    assert lines(tmp_path / "journal") == [done.id]


def test_a_stream_that_loses_messages_is_resumed_without_gap_or_repetition(place: Place) -> None:
    line = place.line()
    session = place.session(line)
    submitted = session.submit(job(lines=200))
    cut: dict[int, str] = {}  # the number of an event → the stream that broke there

    def break_off(message: dict[str, Any]) -> int:
        if "event" in message and (number := message["event"]["n"]) in (30, 90):
            cut.setdefault(number, message["id"])
        return int(message["id"] not in cut.values())

    line.on_the_way_back = break_off
    events = [event.n for event in session.events(submitted.id)]

    assert events == list(range(1, len(events) + 1))
    assert len(cut) == 2


def test_a_silent_job_is_followed_to_its_end(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    session = place.session(place.line())
    submitted = session.submit(job(gate=str(gate), lines=1))
    threading.Timer(2.0, gate.touch).start()  # six times the patience
    events = list(session.events(submitted.id))
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    assert events[-1].final  # type: ignore[union-attr]


def test_a_stream_that_is_left_ends_at_the_node(place: Place, tmp_path: Path) -> None:
    line = place.line()
    session = place.session(line)
    submitted = session.submit(job(gate=str(tmp_path / "gate")))
    events = session.events(submitted.id)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert_eventually(lambda: place.answering.under_way == 0)
    (tmp_path / "gate").touch()


def test_a_reader_without_credit_is_given_up_and_told_where_to_resume(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STALL", 0.1)
    session = place.session(place.line())
    done = session.run(job(lines=20))
    parcel = Parcel(lambda body: None)
    place.send(parcel, op="events", job=done.id, id=1, credit=3)
    assert_eventually(lambda: any("error" in answer for answer in parcel.answers))
    assert [message["event"]["n"] for message in parcel.answers[:-1]] == [1, 2, 3]
    assert parcel.answers[-1]["error"]["message"].endswith("resume with after = 3")


def test_artifacts_come_whole_or_with_an_error(place: Place) -> None:
    line = place.line()
    session = place.session(line)
    done = session.run(job(big=3_000_000))
    assert session.open_artifact(done.id, "big.bin").read() == bytes(range(256)) * (3_000_000 // 256)
    with pytest.raises(NotFound):
        session.open_artifact(done.id, "small.bin")

    line.on_the_way_back = first("chunk_base64")
    with pytest.raises(Unavailable, match="bytes of big"):
        session.open_artifact(done.id, "big.bin").read()


def test_a_node_that_does_not_answer_is_unavailable(place: Place) -> None:
    line = place.line()
    session = place.session(line)
    line.on_the_way_there = lambda message: 0
    for ask in (session.info, lambda: session.run(job()), lambda: list(session.events("x"))):
        with pytest.raises(Unavailable, match="memory://here"):
            ask()


def test_a_rerun_whose_answer_is_lost_is_not_asked_again(place: Place) -> None:
    line = place.line()
    session = place.session(line)
    done = session.run(job())
    line.on_the_way_back = first("job")
    with pytest.raises(Unavailable, match="may have been carried out"):
        session.rerun(done.id)
    assert len(session.list_jobs(JobQuery()).jobs) == 2


def test_a_message_is_accepted_once_its_job_is_durable_and_answered_at_its_end(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    parcel = place.send(Parcel(lambda body: None), script="job", params={"gate": str(gate)}, id=5)

    assert parcel.is_settled.wait(10)
    assert (parcel.settled, parcel.answers) == (["accepted"], [])
    gate.touch()
    assert_eventually(lambda: bool(parcel.answers))
    answer = parcel.answers[0]
    assert (answer["id"], answer["ok"], answer["state"], answer["result"]) == (5, True, "succeeded", "done")
    assert answer["job"]["principal"] == "publisher"


def test_the_same_message_again_is_the_same_job(place: Place, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    parcels = [
        place.send(Parcel(lambda body: None), script="job", params={"journal": str(journal)}, key_property="m1")
        for _ in range(5)
    ]
    assert_eventually(lambda: all(parcel.answers for parcel in parcels))
    assert len({parcel.answers[0]["job"]["id"] for parcel in parcels}) == 1
    assert len(lines(journal)) == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"script": "nobody"}, "not_found"),
        ({"script": "job", "params": {"lines": "many"}}, "invalid"),
        ({"script": "job", "token": "rr_wrong"}, "unauthenticated"),
        ({"scrip": "job"}, "invalid"),
        ({"op": "dance"}, "invalid"),
        ({"script": "job", "stdin": "x" * 100_000}, "too_large"),
    ],
)
@pytest.mark.parametrize("can_answer", [True, False])
def test_a_refused_message_is_put_aside_with_its_reason(
    place: Place, message: dict[str, Any], code: str, can_answer: bool
) -> None:
    parcel = place.send(Parcel((lambda body: None) if can_answer else None), id=1, **message)
    assert parcel.is_settled.wait(10)
    assert_eventually(lambda: place.answering.under_way == 0)
    assert parcel.settled == [code]
    assert [answer["error"]["code"] for answer in parcel.answers] == [code] * can_answer


def test_a_refused_request_of_a_conversation_is_only_answered(place: Place) -> None:
    parcel = place.send(Parcel(lambda body: None), op="get_job", job="nobody", id=1)
    assert_eventually(lambda: bool(parcel.answers))
    assert parcel.settled == ["accepted"]
    assert parcel.answers[0]["error"]["code"] == "not_found"


def test_errors_arrive_as_they_are(place: Place) -> None:
    session = place.session(place.line(), "read")
    with pytest.raises(Forbidden):
        session.run(job())
    with pytest.raises(Unauthenticated):
        QueueService(place.line(), 0.5).authenticate(Token("rr_wrong"))
    with pytest.raises(Invalid) as caught:
        place.session(place.line()).run(job(lines="many"))
    assert [field.field for field in caught.value.fields] == ["lines"]


def test_a_revoked_token_stops_working(place: Place) -> None:
    token = Tokens(place.data).new("gone", ("read",))
    session = QueueService(place.line(), 0.5).authenticate(Token(token))
    session.info()
    Tokens(place.data).revoke("gone")
    assert_eventually(lambda: is_refused(session))


def is_refused(session: Session) -> bool:
    try:
        session.info()
    except Unauthenticated:
        return True
    return False


def test_a_plain_message_waits_for_room_and_a_conversation_is_told(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    session = place.session(place.line())
    for _ in range(4):  # two run, two wait: the queue is full
        session.submit(job(gate=str(gate)))
    with pytest.raises(Busy):
        session.submit(job())

    parcel = place.send(Parcel(None), script="job")
    assert not parcel.is_settled.wait(0.5)
    gate.touch()
    assert parcel.is_settled.wait(20)
    assert parcel.settled == ["accepted"]


def test_a_message_that_waits_is_let_go_when_the_node_stops(place: Place, tmp_path: Path) -> None:
    session = place.session(place.line())
    for _ in range(4):
        session.submit(job(gate=str(tmp_path / "gate")))
    parcel = place.send(Parcel(None), script="job")
    assert_eventually(lambda: place.answering.under_way == 1)
    place.service.call(place.answering.stop(0.1))
    assert parcel.settled == []
    (tmp_path / "gate").touch()


def test_output_is_the_scripts(place: Place) -> None:
    session = place.session(place.line())
    done = session.run(job(lines=3))
    output = b"".join(event.raw() for event in session.events(done.id) if isinstance(event, OutputEvent))
    assert output == b"0\n1\n2\n"


def test_calls_go_on_side_by_side(place: Place, tmp_path: Path) -> None:
    session = place.session(place.line())
    waiting = threading.Thread(target=lambda: session.run(job(gate=str(tmp_path / "gate"))))
    waiting.start()
    assert_eventually(lambda: any(found.state is State.RUNNING for found in session.list_jobs(JobQuery()).jobs))
    found = session.list_jobs(JobQuery()).jobs[0]
    assert session.cancel(found.id).state is State.CANCELLED
    waiting.join()


def assert_eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
