from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pydantic
import pytest

import remoterun
from remoterun import transport
from remoterun.client import Node
from remoterun.errors import ConfigError, Invalid, JobFailed, NotFound, Unauthenticated, Unavailable
from remoterun.local import data_folder, find_credential, local_url
from remoterun.messages import OutputEvent, StateEvent
from remoterun.plain import plain_params
from remoterun.service import Peer, Token
from remoterun.states import State
from tests.unit import fake_node


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transport, "_SHIPPED", {"fake": "tests.unit.fake_node", "unix": "tests.unit.fake_node"})
    monkeypatch.setattr(fake_node, "NODE", fake_node.FakeNode())
    for name in [name for name in os.environ if name.startswith("REMOTERUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def node(fake: None) -> Iterator[Node]:
    with remoterun.connect("fake://here", token=fake_node.TOKEN) as node:
        yield node


def test_run_gives_the_value_that_main_returned(node: Node) -> None:
    assert node.run("hello", name="Ada") == {"hello": "Ada"}


def test_run_gives_the_stdout_of_a_plain_script(node: Node) -> None:
    assert node.run("reports/daily") == "done é\n"


def test_a_function_that_returned_nothing_gives_none(node: Node) -> None:
    assert node.run("silent") is None


def test_parameters_may_have_the_names_of_options(node: Node) -> None:
    params = {"script": 1, "timeout": 2, "key": 3, "stdin": 4, "self": 5, "args": 6}
    assert node.run("params", **params) == params


def test_options_of_a_call_go_beside_its_parameters(node: Node) -> None:
    assert node.script("echo", stdin=b"in ", args=["a", "b c"], timeout=5, key="k", trace="00-1").run() == "in a b c"
    request = fake_node.NODE.requests[-1]
    assert (request.timeout, request.key, request.trace) == (5, "k", "00-1")


def test_bytes_that_are_no_text_reach_stdin(node: Node) -> None:
    node.script("silent", stdin=b"\xff\x00").run()
    assert fake_node.NODE.requests[-1].stdin_bytes() == b"\xff\x00"


def test_parameters_and_args_together_are_refused(node: Node) -> None:
    with pytest.raises(Invalid, match="not both"):
        node.script("echo", args=[]).run(name="Ada")


def test_a_failed_job_raises_with_the_remote_traceback(node: Node) -> None:
    with pytest.raises(JobFailed) as caught:
        node.run("boom")
    assert caught.value.job.state == State.FAILED
    assert 'File "boom.py", line 2' in str(caught.value)


def test_a_refusal_keeps_its_code_and_fields(node: Node) -> None:
    with pytest.raises(NotFound):
        node.run("nowhere")
    with pytest.raises(Invalid) as caught:
        node.run("hello")
    assert [field.field for field in caught.value.fields] == ["name", "times"]


def test_a_handle_follows_its_job_to_the_end(node: Node) -> None:
    handle = node.submit("reports/daily")
    assert handle.state == State.RUNNING
    events = list(handle.events())
    assert [type(event) for event in events] == [OutputEvent, StateEvent]
    assert list(handle.events(after=1)) == events[1:]
    assert handle.wait().state == State.SUCCEEDED
    assert handle.output() == "done é\n".encode()
    assert handle.result() == "done é\n"
    assert handle.artifact("plots/a.png").read() == b"png"
    assert handle.refresh() == handle.wait(0)
    assert repr(handle) == "<JobHandle job-1 reports/daily succeeded>"


def test_a_handle_cancels_and_runs_again(node: Node) -> None:
    handle = node.submit("waits")
    assert handle.cancel().state == State.CANCELLED
    with pytest.raises(JobFailed, match="cancelled"):
        handle.result()
    again = node.job(node.submit("hello", name="Ada").id).rerun()
    assert again.job.rerun_of == "job-2"
    assert again.result() == {"hello": "Ada"}


def test_jobs_are_listed_over_all_pages(node: Node) -> None:
    for _ in range(5):
        node.run("silent")
    node.run("hello", name="Ada")
    assert [job.id for job in node.jobs()] == [f"job-{n}" for n in (6, 5, 4, 3, 2, 1)]
    assert [job.id for job in node.jobs(script="hello", state="succeeded")] == ["job-6"]
    assert list(node.jobs(state="failed")) == []


def test_a_node_describes_itself_and_its_scripts(node: Node) -> None:
    assert node.info().node == "fake"
    assert [script.name for script in node.scripts("h*")] == ["hello", "hostile"]
    assert node.describe("hello").description == "Greet"


def test_leaving_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_node.FakeService, "closed", 0)
    with remoterun.connect("fake://here", fake_node.TOKEN):
        assert fake_node.FakeService.closed == 0
    with pytest.raises(Unauthenticated):
        remoterun.connect("fake://here", "rr_bad")
    assert fake_node.FakeService.closed == 2


def test_url_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REMOTERUN_URL", "fake://here")
    monkeypatch.setenv("REMOTERUN_TOKEN", fake_node.TOKEN)
    assert remoterun.connect().run("silent") is None
    monkeypatch.setenv("REMOTERUN_TOKEN", "rr_bad")
    (tmp_path / "token").write_text(f"{fake_node.TOKEN}\n")
    assert remoterun.connect(token_file="token").run("silent") is None


def test_without_a_node_the_address_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"{tmp_path}/.remoterun/remoterun.sock"):
        remoterun.connect()


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff", "no text")]
)
def test_a_token_file_of_no_use_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        remoterun.connect("fake://here", token_file=file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("url", "credential"),
    [
        ("unix:///run/remoterun.sock", Peer(os.getuid(), os.getgid(), os.getpid())),
        ("tcp://127.0.0.1:7460", Token("rr_local")),
        ("tcp://localhost:7460", Token("rr_local")),
        ("http://localhost", Token("rr_local")),
        ("tcp://[::1]:7460", Token("rr_local")),
        ("http://user@127.0.0.1:7461/path", Token("rr_local")),
        ("tcp://example.org:7460", Token("")),
        ("tcp://127.0.0.1.example.org:7460", Token("")),
        ("http://example.org/@127.0.0.1", Token("")),
        ("http://127.0.0.1@example.org", Token("")),
        ("http://127.0.0.1:80@example.org:80", Token("")),
    ],
)
def test_the_local_token_is_shown_to_this_machine_only(tmp_path: Path, url: str, credential: Token | Peer) -> None:
    (tmp_path / "token").write_text("rr_local")
    assert find_credential(url, None, {}, tmp_path) == credential
    assert find_credential(url, "rr_given", {}, tmp_path) == Token("rr_given")


def test_the_data_folder_is_where_serve_puts_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/remoterun.toml").write_text("data = 'state'")
    assert data_folder({}) == tmp_path / ".remoterun"
    assert data_folder({}, config="sub/remoterun.toml") == tmp_path / "sub/state"
    assert data_folder({"REMOTERUN_CONFIG": "sub/remoterun.toml"}) == tmp_path / "sub/state"
    assert data_folder({"REMOTERUN_DATA": "there"}, config="sub/remoterun.toml") == tmp_path / "there"
    assert data_folder({"REMOTERUN_DATA": "there"}, "here") == tmp_path / "here"
    assert local_url(tmp_path / "state") == f"unix://{tmp_path}/state/remoterun.sock"
    (tmp_path / "remoterun.toml").write_text("data =")
    with pytest.raises(ConfigError, match=r"remoterun\.toml"):
        data_folder({})


@dataclass
class Point:
    x: int
    y: Decimal


class Model(pydantic.BaseModel):
    day: date


def test_values_cross_as_json_has_them() -> None:
    assert plain_params(
        {
            "day": date(2026, 11, 1),
            "path": Path("/srv/data"),
            "price": Decimal("1.10"),
            "id": UUID(int=7),
            "point": Point(1, Decimal("2.5")),
            "model": Model(day=date(2026, 11, 1)),
            "items": (1, {2}),
            "by_number": {1: "one"},
            "data": b"\xff",
            "big": 2**70,
        }
    ) == {
        "day": "2026-11-01",
        "path": "/srv/data",
        "price": "1.10",
        "id": "00000000-0000-0000-0000-000000000007",
        "point": {"x": 1, "y": "2.5"},
        "model": {"day": "2026-11-01"},
        "items": (1, [2]),
        "by_number": {"1": "one"},
        "data": "/w==",
        "big": 2**70,
    }


@pytest.mark.parametrize(
    "value", [object(), float("nan"), [float("inf")], {"a": "\ud800"}, {"\ud800": 1}, lambda: None, open]
)
def test_a_value_without_json_is_named(value: Any) -> None:
    with pytest.raises(Invalid) as caught:
        plain_params({"good": 1, "bad": value})
    assert [field.field for field in caught.value.fields] == ["bad"]
