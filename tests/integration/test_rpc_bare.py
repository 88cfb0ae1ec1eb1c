"""RPC as a program meets it that has RPyC and nothing of ours: `rpyc.connect(host, port)`."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rpyc
from rpyc.utils.classic import obtain

from remoterun.operations import OPERATIONS, STREAMS
from remoterun.testing import RunningNode, running_node
from remoterun_rpc.methods import DOCS

SCRIPTS = Path(__file__).parents[1] / "contract" / "scripts"
HOSTILE = Path(__file__).parents[1] / "hostile" / "scripts"
FOREVER = {"sync_request_timeout": None}

Connect = Callable[..., Any]


@pytest.fixture(scope="module")
def node() -> Iterator[RunningNode]:
    with running_node([SCRIPTS, HOSTILE], workers=4, cancel_grace="300ms") as started:
        yield started
        assert "Traceback" not in started.log(), started.log()


def place(node: RunningNode) -> tuple[str, int]:
    host, _, port = node.urls["rpyc"].removeprefix("rpyc://").rpartition(":")
    return host, int(port)


@pytest.fixture
def connect(node: RunningNode) -> Iterator[Connect]:
    """Give a maker of connections: with the first token, with another, or (None) unproved."""
    with contextlib.ExitStack() as stack:

        def make(token: str | None = "", at: RunningNode = node) -> Any:
            connection = stack.enter_context(rpyc.connect(*place(at), config=FOREVER))
            if token is not None:
                connection.root.login(token or at.token)
            return connection

        yield make


@pytest.fixture
def root(connect: Connect) -> Any:
    return connect().root


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- calls --------------------------------------------------------------------------------------------


def test_login_names_the_principal(node: RunningNode, connect: Connect) -> None:
    root = connect(None).root
    assert root.login(node.token) == "first"
    assert root.login(token=node.token) == "first"
    assert root.login(node.new_token(["read"], name="someone-else")) == "someone-else"
    assert root.login() == "someone-else"


def test_run_gives_the_result_as_json(root: Any) -> None:
    text = root.run("hello", name="Ada", times=2)
    assert type(text) is str
    assert json.loads(text) == {"hello": "Ada", "times": 2}
    assert json.loads(root.run("hello", name="Ünï ✓", times="3")) == {"hello": "Ünï ✓", "times": 3}
    assert root.run("nothing") == "null"


def test_a_script_in_a_subfolder_can_be_named(root: Any) -> None:
    assert "2026-11-01" in root.run("reports/daily", day="2026-11-01")
    assert json.loads(root.get_script("reports/daily"))["name"] == "reports/daily"


def test_a_plain_script_takes_argv_and_gives_its_stdout(root: Any) -> None:
    assert json.loads(root.run("argv", "--full", "", "a b", "key=value")) == ["--full", "", "a b", "key=value"]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (1, 1), (-1.5, -1.5), (True, True), (None, None), ("", ""), ("a\0b", "a\0b"), ((1, ("a",)), [1, ["a"]]),
        (b"\xff\0", "/wA="), (2**63, 2**63), (-(2**63), -(2**63)), ("x" * 100_000, "x" * 100_000),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_plain_values_arrive(root: Any, value: Any, seen: Any) -> None:
    assert json.loads(root.run("echo", value=value)) == seen


def test_parameters_may_have_any_name(root: Any) -> None:
    for name in ("script", "self", "timeout", "key", "args", "callback", "name", "value"):
        with pytest.raises(ValueError, match="there is no such parameter") as raised:
            root.run("echo", **{name: 1, "other": 2})
        assert f'"field":"{name}"' in raised.value.error or name == "value"  # type: ignore[attr-defined]


def test_the_exact_form_takes_every_option(root: Any) -> None:
    request = {"script": "hello", "params": {"name": "Ada"}, "key": "rpc once", "timeout": 20}
    job = json.loads(root.call("run", json.dumps(request)))
    assert (job["state"], job["result"]) == ("succeeded", {"hello": "Ada", "times": 1})
    assert json.loads(root.call("submit", json.dumps(request)))["id"] == job["id"]
    again = json.loads(root.call("run", json.dumps({"script": "cat", "stdin": "from stdin"})))
    pieces: list[str] = []
    root.events(again["id"], pieces.append)
    assert "from stdin" in "".join(pieces)


def test_every_operation_has_its_method() -> None:
    assert set(DOCS) == {"login", "call", *OPERATIONS, *STREAMS}


def test_the_rest_of_the_operations(root: Any) -> None:
    job = root.submit("hello", name="Ada")
    ended = json.loads(root.wait(job))
    assert (ended["id"], ended["state"]) == (job, "succeeded")
    assert json.loads(root.wait(job, 0.5)) == json.loads(root.get_job(job)) == ended
    assert json.loads(root.cancel(job)) == ended
    again = root.rerun(job, newest=True)
    assert json.loads(root.wait(job=again, timeout=30))["rerun_of"] == job
    page = json.loads(root.list_jobs(script="hello", limit=2))
    assert [one["id"] for one in page["jobs"]] == [again, job]
    assert json.loads(root.list_jobs("hello", "failed"))["jobs"] == []
    assert [one["name"] for one in json.loads(root.list_scripts("rep*"))] == ["reports/daily"]
    assert json.loads(root.info())["transports"]["rpc"]
    with pytest.raises(LookupError):
        root.run("no/such")
    assert json.loads(root.list_refusals(5))[0]["script"] == "no/such"
    made = json.loads(root.new_token("made-over-rpc", ("read",)))
    assert made["token"].startswith("rr_")
    assert made["name"] in [one["name"] for one in json.loads(root.list_tokens())]
    assert root.revoke_token(made["name"]) == "null"


def test_events_come_numbered_and_live(root: Any, tmp_path: Path) -> None:
    gate, seen = tmp_path / "gate", []

    def note(text: str) -> None:
        seen.append(json.loads(text))
        if "waiting" in text:
            gate.touch()  # live: the job goes on only if this arrived

    job = root.submit("gate", path=str(gate))
    last = root.events(job, note)
    assert [event["n"] for event in seen] == list(range(1, last + 1))
    assert seen[-1]["final"] is True
    later: list[str] = []
    assert root.events(job, later.append, after=last - 2) == last
    assert [json.loads(text)["n"] for text in later] == [last - 1, last]
    assert root.events(job, callback=later.append, after=last) == last


def test_artifacts_come_in_pieces(root: Any, tmp_path: Path) -> None:
    job = root.submit("leaves", big=1_000_000)
    root.wait(job)
    with (tmp_path / "big").open("wb") as file:
        info = json.loads(root.open_artifact(job, "big.bin", file.write))
    assert (tmp_path / "big").read_bytes() == bytes(range(256)) * (1_000_000 // 256)
    assert info["size"] == (tmp_path / "big").stat().st_size
    nothing: list[bytes] = []
    assert json.loads(root.open_artifact(job, "empty", nothing.append))["size"] == 0
    assert nothing == []
    with pytest.raises(LookupError, match="no artifact"):
        root.open_artifact(job, "../passwd", nothing.append)


def test_a_failing_callback_ends_the_stream(root: Any) -> None:
    job = root.submit("hello", name="Ada")
    root.wait(job)

    def fail(text: str) -> None:
        raise OSError("no space")

    with pytest.raises(ValueError, match="callback raised"):
        root.events(job, fail)
    assert root.run("nothing") == "null"


def test_a_callback_may_return_anything(root: Any) -> None:
    job = root.submit("hello", name="Ada")
    root.wait(job)
    for answer in ({}, frozenset((1,)), 1j, object(), ..., lambda: None):
        assert root.events(job, lambda text, answer=answer: answer) > 0


def test_nothing_of_the_callers_is_held_on_to(connect: Connect) -> None:
    connection = connect()
    job = connection.root.submit("hello", name="Ada")
    for _ in range(3):
        connection.root.events(job, [].append)
        with pytest.raises(ValueError, match="by reference"):
            connection.root.run("echo", value=[1, 2])
        with pytest.raises(ValueError, match="by reference"):
            connection.root.run("echo", value=({}, (object(),)))
    connection.root.info()
    assert connection._local_objects._dict == {}


# -- side by side -------------------------------------------------------------------------------------


def test_cancel_comes_from_a_second_connection(connect: Connect) -> None:
    watcher = connect()
    ids: list[str] = []

    def cancel() -> None:
        eventually(lambda: bool(json.loads(watcher.root.list_jobs(script="sleeps", state="running"))["jobs"]))
        ids.append(json.loads(watcher.root.list_jobs(script="sleeps"))["jobs"][0]["id"])
        watcher.root.cancel(ids[0])

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(RuntimeError, match="cancelled") as raised:
        connect().root.run("sleeps", seconds=60)
    canceller.join()
    assert raised.value.code == "cancelled"  # type: ignore[attr-defined]
    assert json.loads(raised.value.job)["id"] == ids[0]  # type: ignore[attr-defined]


def test_calls_of_one_connection_run_side_by_side(connect: Connect, tmp_path: Path) -> None:
    connection, gate = connect(), tmp_path / "gate"
    running = rpyc.async_(connection.root.run)("gate", path=str(gate))
    assert connection.root.run("nothing") == "null"
    assert not running.ready
    gate.touch()
    assert running.value == '"done"'


def test_a_callback_may_call(root: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = root.submit("gate", path=str(gate))

    seen: list[str] = []

    def cancel(text: str) -> None:
        seen.append(text)
        if "waiting" in text:
            root.cancel(job)

    root.events(job, cancel)
    assert '"cancelled"' in max(seen, key=lambda text: json.loads(text)["n"])


def test_the_callers_own_patience_does_not_end_the_job(connect: Connect, tmp_path: Path) -> None:
    connection, gate = connect(), tmp_path / "gate"
    connection._config["sync_request_timeout"] = 0.2
    job = connection.root.submit("gate", path=str(gate))
    with pytest.raises(TimeoutError):
        connection.root.wait(job)
    gate.touch()
    connection._config["sync_request_timeout"] = None
    assert json.loads(connection.root.wait(job))["state"] == "succeeded"


def test_a_caller_that_goes_cancels_nothing(node: RunningNode, connect: Connect, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with rpyc.connect(*place(node), config=FOREVER) as gone:
        gone.root.login(node.token)
        rpyc.async_(gone.root.run)("gate", path=str(gate))
        gone.ping()
    stays = connect().root
    eventually(lambda: bool(json.loads(stays.list_jobs(script="gate", state="running"))["jobs"]))
    job = json.loads(stays.list_jobs(script="gate"))["jobs"][0]["id"]
    gate.touch()
    assert json.loads(stays.wait(job))["state"] == "succeeded"


def test_a_stopping_node_says_from_where_to_resume(tmp_path: Path) -> None:
    with running_node([SCRIPTS], workers=1, grace="200ms", cancel_grace="100ms") as node:
        with rpyc.connect(*place(node), config=FOREVER) as connection:
            root = connection.root
            root.login(node.token)
            running = root.submit("gate", path=str(tmp_path / "gate"))
            waits = root.submit("hello", name="Ada")
            seen: list[str] = []
            following = rpyc.async_(root.events)(waits, seen.append)
            waited = rpyc.async_(root.wait)(waits)
            ran = rpyc.async_(root.wait)(running)
            root.info()
            node.terminate()
            with pytest.raises(ConnectionError, match=rf'stopping; resume with events\("{waits}", callback, 1\)'):
                following.value  # noqa: B018 - reading it raises
            with pytest.raises(ConnectionError, match="unavailable: "):
                waited.value  # noqa: B018
            assert json.loads(ran.value)["state"] == "lost"
        assert [json.loads(text)["n"] for text in seen] == [1]


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "code"),
    [
        (lambda root: root.run("no/such"), LookupError, "not_found"),
        (lambda root: root.run("hello", times=10), ValueError, "invalid"),
        (lambda root: root.run("hello", name=float("nan")), ValueError, "invalid"),
        (lambda root: root.run("echo", value=2**64), ValueError, "invalid"),
        (lambda root: root.run("echo", value=1j), ValueError, "invalid"),
        (lambda root: root.run("echo", value=frozenset((1,))), ValueError, "invalid"),
        (lambda root: root.run("echo", value=tuple(range(20_000))), ValueError, "invalid"),
        (lambda root: root.run("echo", value="x" * 2**20), ValueError, "too_large"),
        (lambda root: root.run("echo", value="x" * 2**24), ValueError, "too_large"),
        (lambda root: root.run(), ValueError, "invalid"),
        (lambda root: root.run(7), ValueError, "invalid"),
        (lambda root: root.run("argv", 7), ValueError, "invalid"),
        (lambda root: root.run("argv", "x", name="y"), ValueError, "invalid"),
        (lambda root: root.wait("x", 1, 2), ValueError, "invalid"),
        (lambda root: root.wait("x", job="y"), ValueError, "invalid"),
        (lambda root: root.wait("x", soon=1), ValueError, "invalid"),
        (lambda root: root.wait(), ValueError, "invalid"),
        (lambda root: root.wait(print), ValueError, "invalid"),
        (lambda root: root.get_job("x"), LookupError, "not_found"),
        (lambda root: root.call("eval", "{}"), ValueError, "invalid"),
        (lambda root: root.call("run", "{"), ValueError, "invalid"),
        (lambda root: root.call("run", '{"script": "hello", "more": 1}'), ValueError, "invalid"),
        (lambda root: root.call("run"), ValueError, "invalid"),
        (lambda root: root.call("events", '{"job": "x"}'), ValueError, "invalid"),
        (lambda root: root.call("events", '{"job": "x"}', "no callback"), ValueError, "invalid"),
        (lambda root: root.events("x"), ValueError, "invalid"),
        (lambda root: root.events("x", "no callback"), ValueError, "invalid"),
        (lambda root: root.events("x", print), LookupError, "not_found"),
        (lambda root: root.events("x", print, -1), ValueError, "invalid"),
        (lambda root: root.events("x", root.run), ValueError, "invalid"),
        (lambda root: root.login("rr_wrong"), PermissionError, "unauthenticated"),
    ],
)  # fmt: skip
def test_a_refusal_says_its_code(root: Any, call: Callable[[Any], Any], kind: type[Exception], code: str) -> None:
    with pytest.raises(kind) as raised:
        call(root)
    assert raised.value.code == code  # type: ignore[attr-defined]
    assert str(raised.value).startswith(f"{code}: ")
    error = json.loads(raised.value.error)  # type: ignore[attr-defined]
    assert error["code"] == code
    assert "remoterun_rpc" not in str(raised.value)  # nothing of how the node is made
    if code != "unauthenticated":
        assert root.run("nothing") == "null"


def test_a_failed_job_raises_with_the_scripts_traceback(root: Any) -> None:
    with pytest.raises(RuntimeError) as raised:
        root.run("fails", how="raise")
    assert raised.value.code == "failed"  # type: ignore[attr-defined]
    assert "Traceback" in str(raised.value)
    assert "fails.py" in str(raised.value)
    assert "remoterun_rpc" not in str(raised.value)
    assert json.loads(raised.value.job)["state"] == "failed"  # type: ignore[attr-defined]


def test_nothing_runs_without_a_login(connect: Connect) -> None:
    stranger = connect(None)
    for name in DOCS:
        if name != "login":
            with pytest.raises(PermissionError, match="login"):
                getattr(stranger.root, name)("hello")
    with pytest.raises(PermissionError, match="login"):
        stranger.root.login()


def test_a_revoked_token_stops_working_on_open_connections(node: RunningNode, connect: Connect) -> None:
    connection = connect(node.new_token(["run"], name="lapsing"))
    assert connection.root.run("nothing") == "null"
    node.revoke_token("lapsing")

    def is_refused() -> bool:
        try:
            connection.root.run("nothing")
        except PermissionError as error:
            return "revoked" in str(error)
        return False

    eventually(is_refused)
    with pytest.raises(PermissionError, match="login"):
        connection.root.info()
    connection.root.login(node.token)
    assert connection.root.run("nothing") == "null"


def test_scopes_hold(node: RunningNode, connect: Connect) -> None:
    limited = connect(node.new_token(["run:hello"])).root
    assert limited.run("hello", name="Ada")
    with pytest.raises(PermissionError, match="scope run:nothing"):
        limited.run("nothing")
    with pytest.raises(PermissionError, match="scope read"):
        limited.list_scripts()


def test_too_many_calls_at_once_are_refused(connect: Connect, tmp_path: Path) -> None:
    with running_node([SCRIPTS], workers=2, rpc={"calls": 3}) as node:
        connection, gate = connect(at=node), tmp_path / "gate"
        run = rpyc.async_(connection.root.run)
        running = [run("gate", path=str(gate)) for _ in range(3)]
        with pytest.raises(ConnectionError, match="under way"):
            connection.root.info()
        gate.touch()
        assert [one.value for one in running] == ['"done"'] * 3
        assert connection.root.info()


# -- what RPyC offers besides -------------------------------------------------------------------------


def test_the_root_describes_itself(connect: Connect) -> None:
    root = connect(None).root
    assert "login(token)" in str(root)
    assert "login(token)" in repr(root)
    assert set(dir(root)) >= set(DOCS)
    assert root.run.__doc__ == DOCS["run"]
    assert root.run.__name__ == "run"
    assert root == root
    assert root.run == root.run
    assert root.run != root.wait
    assert hash(root.run) == hash(root.run)


def test_ping(connect: Connect) -> None:
    connect(None).ping()
    connect().ping("x" * 1000)


def test_classic_mode_finds_nothing(node: RunningNode) -> None:
    """It offers the other side everything of this one, and wants the same: `conn.modules`, `conn.eval`."""
    stream = rpyc.SocketStream.connect(*place(node))
    with contextlib.closing(stream), pytest.raises(AttributeError, match="nothing of that name"):
        rpyc.classic.connect_stream(stream)


def test_nothing_can_be_pickled_or_iterated(root: Any) -> None:
    for target in (root, root.run):
        for attempt in (obtain, iter, len, list, bool, copy_of, lambda one: one[0], lambda one: one + one):
            with contextlib.suppress(TypeError, AttributeError, ValueError):
                assert attempt(target) is True  # bool() of any object


def copy_of(target: Any) -> Any:
    import copy

    return copy.copy(target)
