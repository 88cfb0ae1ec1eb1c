"""The client half against the server half."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from remoterun.errors import (
    Busy,
    Conflict,
    Forbidden,
    Internal,
    Invalid,
    NotFound,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from remoterun.messages import FieldError, JobQuery, JobRequest
from remoterun.service import Mapped, Service, Session, Token
from remoterun.states import State
from remoterun.transport import Target
from remoterun_http import transport
from tests.integration.http_fake import PICTURE, READER, TOKEN, Node, serving
from tests.integration.test_http_server import certificate

T = TypeVar("T")
__all__ = ["certificate"]


class Running:
    """A node on a loop in a thread of its own, as a blocking client meets it."""

    def __init__(self, tmp_path: Path, settings: dict[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._serving = serving(tmp_path, **settings)
        self.node: Node = self.do(self._serving.__aenter__())

    def do(self, coroutine: Any) -> Any:
        """Run a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the loop."""

        async def there() -> T:
            return function()

        result: T = self.do(there())
        return result

    def close(self) -> None:
        """Stop the node and the loop."""
        self.do(self._serving.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def running(tmp_path: Path, **settings: Any) -> Iterator[Running]:
    server = Running(tmp_path, settings)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


@pytest.fixture
def service(server: Running) -> Iterator[Service]:
    connected = transport.connect(Target(server.node.url))
    yield connected
    connected.close()


@pytest.fixture
def session(service: Service) -> Session:
    return service.authenticate(Token(TOKEN))


def test_a_session_knows_its_principal(session: Session) -> None:
    assert session.principal == "ada"
    assert session.info().node == "fake"
    session.close()
    session.close()


@pytest.mark.parametrize("credential", [Token("wrong"), Token("é\n"), Mapped("ada")])
def test_a_wrong_credential_opens_nothing(service: Service, credential: Any) -> None:
    with pytest.raises(Unauthenticated):
        service.authenticate(credential)


def test_run_gives_the_job_however_it_ended(session: Session) -> None:
    states = {script: session.run(JobRequest(script=script)).state for script in ("hello", "fail", "late", "picky")}
    assert states == {"hello": "succeeded", "fail": "failed", "late": "timed_out", "picky": "failed"}
    job = session.run(JobRequest(script="fail"))
    assert job.error is not None
    assert job.error.traceback == "Traceback …"


def test_run_sends_the_request_as_it_is(session: Session, server: Running) -> None:
    requests = [
        JobRequest(script="echo", args=("a", "é"), stdin_base64=b"\xff\x00"),
        JobRequest(script="args", params={"args": ["x"]}, stdin="in", timeout=1.5, key="k", trace="00-a"),
        JobRequest(script="reports/move", params={"to": {"x": 1, "y": 2.5}}),
    ]
    for request in requests:
        session.run(request)
        session.submit(request)
    seen = [job.request for job in server.node.service.jobs.values()]
    assert seen == [requests[0], requests[0], requests[1], requests[2], requests[2]]


def test_a_job_is_submitted_listed_waited_for_and_run_again(session: Session, server: Running) -> None:
    job = session.submit(JobRequest(script="slow"))
    assert session.get_job(job.id).state is State.RUNNING
    assert session.wait(job.id, timeout=0.0).state is State.RUNNING
    server.call(server.node.service.release.set)
    assert session.wait(job.id).result == "done"
    again = session.rerun(job.id, newest=True)
    assert again.rerun_of == job.id
    page = session.list_jobs(JobQuery(script="slow", limit=1))
    assert [each.id for each in page.jobs] == [again.id]
    assert page.next is not None
    assert [each.id for each in session.list_jobs(JobQuery(before=page.next, since=job.created)).jobs] == [job.id]


def test_a_job_is_cancelled(session: Session) -> None:
    job = session.submit(JobRequest(script="slow"))
    assert session.cancel(job.id).state is State.CANCELLED


def test_scripts_and_refusals_are_listed(session: Session) -> None:
    assert [script.name for script in session.list_scripts("re*")] == ["reports/move"]
    assert session.get_script("reports/move").parameters is not None
    assert session.list_refusals(1)[0].code == "busy"


def test_events_come_to_the_final_one(session: Session) -> None:
    job = session.run(JobRequest(script="draw"))
    assert [event.n for event in session.events(job.id)] == [1, 2, 3, 4, 5, 6]
    assert [event.n for event in session.events(job.id, after=4)] == [5, 6]
    assert list(session.events(job.id, after=6)) == []


def test_events_resume_after_a_broken_line(session: Session, server: Running) -> None:
    job = session.submit(JobRequest(script="slow"))
    events = session.events(job.id)
    assert [next(events).n, next(events).n] == [1, 2]

    def break_lines() -> None:
        for connection in list(server.node.server._server.server_state.connections):  # type: ignore[union-attr]
            connection.transport.abort()
        server.node.service.release.set()

    server.call(break_lines)
    assert [event.n for event in events] == [3, 4]


def test_events_of_a_node_that_went_away_end_with_the_reason(
    session: Session, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remoterun_http.client._PAUSES", (0.0, 0.0))
    events = session.events(session.submit(JobRequest(script="slow")).id)
    assert [next(events).n, next(events).n] == [1, 2]
    server.do(server.node.server.stop(0.1))
    with pytest.raises(Unavailable, match="nothing answers"):
        next(events)


def test_artifacts_are_streamed(session: Session) -> None:
    job = session.run(JobRequest(script="draw"))
    picture = session.open_artifact(job.id, "plot.png")
    assert (picture.info, picture.read()) == (job.artifacts[0], PICTURE)
    assert session.open_artifact(job.id, 'odd/é".svg').info == job.artifacts[1]
    with pytest.raises(NotFound):
        session.open_artifact(job.id, "../plot.png")


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (JobRequest(script="nope"), NotFound),
        (JobRequest(script=""), NotFound),
        (JobRequest(script="../x?y#z"), NotFound),
        (JobRequest(script="hello", params={"nope": 1}), Invalid),
        (JobRequest(script="busy"), Busy),
    ],
)
def test_refusals_are_the_errors_that_they_were(session: Session, request_: JobRequest, kind: type[Exception]) -> None:
    for call in (session.run, session.submit):
        with pytest.raises(kind):
            call(request_)


def test_errors_keep_their_fields_and_times(session: Session, service: Service) -> None:
    with pytest.raises(Busy) as busy:
        session.submit(JobRequest(script="busy"))
    assert busy.value.retry_after == 1.5
    with pytest.raises(Invalid) as invalid:
        session.submit(JobRequest(script="reports/move", params={"to": {"x": 1, "y": "b"}}))
    assert [type(field) for field in invalid.value.fields] == [FieldError]
    session.submit(JobRequest(script="hello", key="k"))
    with pytest.raises(Conflict):
        session.submit(JobRequest(script="args", key="k"))
    with pytest.raises(Forbidden):
        service.authenticate(Token(READER)).run(JobRequest(script="hello"))


@pytest.mark.parametrize("operation", ["get_job", "wait", "cancel", "rerun"])
def test_an_unknown_job_is_not_found(session: Session, operation: str) -> None:
    with pytest.raises(NotFound):
        getattr(session, operation)("a/../b?c")


def test_a_revoked_token_stops_working(session: Session, server: Running) -> None:
    server.call(lambda: server.node.service.tokens.pop(TOKEN))
    with pytest.raises(Unauthenticated):
        session.info()


def test_nothing_there_is_unavailable(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        url = server.node.url
    with pytest.raises(Unavailable, match=url.partition("//")[2]):
        transport.connect(Target(url))


def test_a_call_with_a_key_is_sent_again_after_a_broken_line(server: Running, session: Session) -> None:
    _break_first_call(server)
    with pytest.raises(Unavailable):
        session.run(JobRequest(script="hello"))
    _break_first_call(server)
    job = session.run(JobRequest(script="hello", key="k"))
    assert [each.job.id for each in server.node.service.jobs.values() if each.job.key] == [job.id]


def _break_first_call(server: Running) -> None:
    """Make the next call run, and its line break before the answer."""
    from tests.integration.http_fake import FakeSession

    real = FakeSession.run

    async def broken(self: FakeSession, request: JobRequest) -> Any:
        FakeSession.run = real  # type: ignore[method-assign]
        job = await real(self, request)
        for connection in list(server.node.server._server.server_state.connections):  # type: ignore[union-attr]
            connection.transport.abort()
        return job

    FakeSession.run = broken  # type: ignore[method-assign]


def test_tls_trusts_the_given_authority_only(tmp_path: Path, certificate: tuple[str, str]) -> None:
    cert, key = certificate
    with running(tmp_path, cert=cert, key=key) as server:
        service = transport.connect(Target(server.node.url, ca_file=cert))
        assert service.authenticate(Token(TOKEN)).run(JobRequest(script="hello")).state is State.SUCCEEDED
        service.close()
        with pytest.raises(Unavailable):
            transport.connect(Target(server.node.url))
    with pytest.raises(Unavailable, match="CA file"):
        transport.connect(Target(server.node.url, ca_file=__file__))


def test_what_is_no_remoterun_is_said_so() -> None:
    with http_of_another_kind() as url, pytest.raises(ServiceError) as caught:
        transport.connect(Target(url))
    assert isinstance(caught.value, Internal)
    assert "not as remoterun does" in str(caught.value)


@contextmanager
def http_of_another_kind() -> Iterator[str]:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{other.server_port}"
        finally:
            other.shutdown()
            thread.join()
