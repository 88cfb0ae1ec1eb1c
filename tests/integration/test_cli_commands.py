"""Every command but `run`, with a node in this process's memory."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from remoterun import transport
from remoterun.cli import main
from remoterun.cli.commands import COMMANDS
from remoterun.cli.jobs import moment
from remoterun.cli.scripts import describe_type
from remoterun.cli.tables import seconds_between
from remoterun.errors import Invalid
from tests.unit import fake_node


class Done(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Done]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    for name in [name for name in os.environ if name.startswith("REMOTERUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr(transport, "_SHIPPED", {"fake": "tests.unit.fake_node", "unix": "tests.unit.fake_node"})
    monkeypatch.setattr(transport, "installed", lambda: {"fake": fake_node.transport})
    monkeypatch.setattr(fake_node, "NODE", fake_node.FakeNode())
    monkeypatch.setenv("REMOTERUN_URL", "fake://here")
    monkeypatch.setenv("REMOTERUN_TOKEN", fake_node.TOKEN)

    def call(*words: str) -> Done:
        code = main(words)
        return Done(code, *capfd.readouterr())

    return call


def test_alone_it_lists_every_command(cli: Cli) -> None:
    done = cli()
    assert done.code == 0
    assert all(f"  {name}" in done.out for name in COMMANDS)
    assert "_complete" not in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(cli: Cli, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli(name, "--help")
    assert caught.value.code == 0
    text = capfd.readouterr().out
    assert text.startswith("usage: remoterun")
    assert all(option in text for option in ("--on", "--json", "--token-file", "--data", "--config"))


def test_the_version_is_printed(cli: Cli, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli("--version")
    assert capfd.readouterr().out.startswith("remoterun 0.")


def test_jobs_are_a_table_newest_first(cli: Cli) -> None:
    for words in (["exit", "--", "3"], ["hello", "name=Ada"], ["silent"]):
        cli("run", "--no-stdin", *words)
    done = cli("jobs")
    assert done.out.splitlines() == [
        "ID     SCRIPT  STATE      CREATED              TOOK  BY",
        "job-3  silent  succeeded  2026-11-01 08:30:00  0s    tester",
        "job-2  hello   succeeded  2026-11-01 08:30:00  0s    tester",
        "more: --before job-2",
    ]
    assert [line.split()[0] for line in cli("jobs", "--before", "job-2").out.splitlines()[1:]] == ["job-1"]
    assert [line.split()[0] for line in cli("jobs", "--state", "failed").out.splitlines()[1:]] == ["job-1"]
    page = json.loads(cli("jobs", "--script", "hello", "--json").out)
    assert [job["id"] for job in page["jobs"]] == ["job-2"]
    assert page["next"] is None


def test_a_job_is_shown_with_what_there_is_to_know(cli: Cli) -> None:
    cli("run", "hello", "name=Ada", "--key", "k", "--no-stdin")
    lines = dict(line.split("  ", 1) for line in cli("job", "job-1").out.splitlines())
    facts = {name: value.strip() for name, value in lines.items()}
    assert facts["params"] == '{"name":"Ada"}'
    assert facts["result"] == '{"hello":"Ada"}'
    assert facts["by"] == "tester over fake on fake"
    assert facts["key"] == "k"
    assert json.loads(cli("job", "job-1", "--json").out)["result"] == {"hello": "Ada"}
    assert cli("job", "nope") == (125, "", "remoterun: there is no job nope\n")


def test_wait_exits_as_the_job_did(cli: Cli) -> None:
    cli("submit", "--no-stdin", "exit", "--", "7")
    assert cli("wait", "job-1", "--timeout", "0").code == 124
    done = cli("wait", "job-1", "--json")
    assert (done.code, json.loads(done.out)["exit_code"]) == (7, 7)
    assert cli("wait", "job-1", "--timeout", "later").code == 125


def test_logs_print_what_was_written(cli: Cli) -> None:
    cli("submit", "--no-stdin", "chatty")
    assert cli("logs", "-f", "job-1") == (0, "no newline", "warned\n")
    assert cli("logs", "job-1", "--after", "1") == (0, "", "warned\n")
    events = [json.loads(line) for line in cli("logs", "job-1", "--json").out.splitlines()]
    assert [event["kind"] for event in events] == ["output", "output", "state"]
    assert events[-1]["final"] is True


def test_logs_of_a_running_job_end_with_what_is_there(cli: Cli) -> None:
    cli("submit", "--no-stdin", "waits")
    assert cli("logs", "job-1") == (0, "started\n", "")
    fake_node.NODE.find("job-1").cancelled.set()


def test_a_job_is_cancelled(cli: Cli) -> None:
    cli("submit", "--no-stdin", "waits")
    assert json.loads(cli("cancel", "job-1", "--json").out)["state"] == "cancelled"
    assert cli("wait", "job-1").code == 143


def test_a_job_is_run_again(cli: Cli) -> None:
    cli("run", "--no-stdin", "hello", "name=Ada")
    assert cli("rerun", "job-1").out == "job-2\n"
    assert json.loads(cli("rerun", "job-1", "--newest", "--json").out)["rerun_of"] == "job-1"


def test_artifacts_are_listed_and_copied(cli: Cli, tmp_path: Path) -> None:
    cli("run", "--no-stdin", "echo")
    assert cli("artifacts", "job-1").out.splitlines()[1] == "plots/a.png  3 B   image/png"
    assert json.loads(cli("artifacts", "job-1", "--json").out)[0]["name"] == "plots/a.png"
    assert cli("artifacts", "job-1", "-o", "out").code == 0
    assert (tmp_path / "out/plots/a.png").read_bytes() == b"png"
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["a.png"]
    assert cli("artifacts", "job-1", "nope", "-o", "out").err == "remoterun: job job-1 has no artifact nope\n"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "", ".", "a\0b", "link/evil"])
def test_an_artifact_cannot_leave_its_folder(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path)
    cli("run", "--no-stdin", "echo")
    live = fake_node.NODE.find("job-1")
    hostile = (msgspec.structs.replace(live.job.artifacts[0], name=name),)
    fake_node.NODE.jobs["job-1"] = live._replace(job=msgspec.structs.replace(live.job, artifacts=hostile))
    done = cli("artifacts", "job-1", "-o", "out")
    assert done.code == 125
    assert "leads out of the folder" in done.err
    assert sorted(path.name for path in tmp_path.rglob("*") if not path.is_dir()) == []


def test_scripts_are_listed_with_their_parameters(cli: Cli) -> None:
    lines = cli("ls", "he*").out.splitlines()
    assert lines == ["NAME   PARAMETERS                    DESCRIPTION",
                     'hello  name [times=1] [tone="warm"]  Greet']  # fmt: skip
    assert [script["name"] for script in json.loads(cli("ls", "reports/*", "--json").out)] == ["reports/daily"]


def test_a_script_is_shown(cli: Cli) -> None:
    text = cli("show", "hello").out
    assert 'tone       "warm" | "cold"  "warm"' in text
    assert text.endswith("Greet someone.\n\nTwice if asked.\n")
    assert json.loads(cli("show", "hello", "--json").out)["parameters"]["required"] == ["name"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer"}, "integer"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer | null"),
        ({"enum": ["a", 1]}, '"a" | 1'),
        ({"const": 3}, "3"),
        ({"$ref": "#/$defs/Point"}, "Point"),
        ({}, "any"),
    ],
)
def test_a_schema_is_said_in_a_few_words(schema: dict[str, Any], words: str) -> None:
    assert describe_type(schema) == words


def test_a_node_says_what_it_is(cli: Cli) -> None:
    assert "load          2 of 4 running, 1 of 10 waiting\n" in cli("info").out
    assert json.loads(cli("info", "--json").out)["load"]["workers"] == 4


def test_without_a_node_one_line_says_how_to_get_one(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("REMOTERUN_URL")
    done = cli("ls", "--data", "state")
    assert (done.code, done.out) == (125, "")
    assert done.err == (
        f"remoterun: no node answers in {tmp_path}/state: "
        "start one with `remoterun serve`, or name another with --on URL\n"
    )


def stub(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_serve_hands_over_the_settings_of_its_flags(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    got: list[Any] = []

    def serve(loaded: object, ready_file: Path | None) -> int:
        got.append((loaded, ready_file))
        return 3

    stub(monkeypatch, "remoterun.node", serve=serve)
    (tmp_path / "remoterun.toml").write_text("queue = 5\nworkers = 1\n[limits]\nfiles = 99\n")
    monkeypatch.setenv("REMOTERUN_GRACE", "7s")
    words = ["a", "b", "--workers", "2", "--limits-output", "1MB", "--insecure-listen", "--data", "d"]
    assert cli("serve", *words, "--ready-file", "ready").code == 3
    loaded, ready = got[0]
    node = loaded.node
    assert (node.scripts, node.data) == ((str(tmp_path / "a"), str(tmp_path / "b")), str(tmp_path / "d"))
    assert (node.workers, node.queue, node.grace, node.limits.files, node.limits.output) == (2, 5, 7.0, 99, 10**6)
    assert node.insecure_listen is True
    assert ready == Path("ready")
    assert loaded.sources["workers"] == "--workers"
    assert cli("serve", "--workers", "x").err == "remoterun: --workers: Expected `int`, got `str`\n"


class FakeTokenInfo(msgspec.Struct):
    name: str
    scopes: tuple[str, ...]
    created: datetime
    expires: datetime | None


class FakeTokens:
    calls: list[tuple[Any, ...]] = []  # noqa: RUF012 - one list for every instance is what the test reads

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self, name: str, scopes: Sequence[str], expires_seconds: float | None) -> str:
        self.calls.append((self.folder.name, name, scopes, expires_seconds))
        return "rr_new"

    def list(self) -> Sequence[FakeTokenInfo]:
        when = datetime(2026, 11, 1, tzinfo=UTC)
        return [FakeTokenInfo("ci", ("read", "run:*"), when, None), FakeTokenInfo("old", (), when, when)]

    def revoke(self, name: str) -> None:
        if name != "ci":
            raise Invalid(f"there is no token {name}")


def test_tokens_are_made_listed_and_revoked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, "remoterun.access", Tokens=FakeTokens)
    words = ["token", "new", "--name", "ci", "--scope", "read", "run:*", "--scope", "cancel:all"]
    assert cli(*words, "--expires", "30d", "--data", "d") == (0, "rr_new\n", "")
    assert FakeTokens.calls.pop() == ("d", "ci", ["read", "run:*", "cancel:all"], 30 * 86400)
    assert json.loads(cli(*words, "--json").out) == {"name": "ci", "token": "rr_new"}
    assert FakeTokens.calls.pop()[3] is None
    assert cli("token", "list").out.splitlines() == [
        "NAME  SCOPES      CREATED              EXPIRES",
        "ci    read run:*  2026-11-01 00:00:00  never",
        "old               2026-11-01 00:00:00  2026-11-01 00:00:00",
    ]
    assert [token["name"] for token in json.loads(cli("token", "list", "--json").out)] == ["ci", "old"]
    assert cli("token", "revoke", "ci") == (0, "", "")
    assert cli("token", "revoke", "x") == (125, "", "remoterun: there is no token x\n")
    assert cli("token", "new", "--name", "ci").code == 125
    assert cli("token", "revoke").code == 125
    assert cli(*words, "--expires", "0").code == 125


class FakeFinding(msgspec.Struct):
    file: str
    line: int
    severity: str
    message: str


def test_scripts_are_made_and_checked(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checked: list[list[Path]] = []

    async def check(folders: list[Path], *, environments: object) -> list[FakeFinding]:
        checked.append(folders)
        severity = "warning" if folders == [Path("fine")] else "error"
        return [FakeFinding("a.py", 3, severity, "odd\x1b[2J")]

    def create(folder: Path, name: str) -> Path:
        return folder / f"{name}.py"

    stub(monkeypatch, "remoterun.catalog", __path__=[])
    stub(monkeypatch, "remoterun.catalog.check", check=check)
    stub(monkeypatch, "remoterun.catalog.new", create=create)
    assert cli("new", "reports/daily").out == f"{tmp_path}/scripts/reports/daily.py\n"
    assert cli("check", "fine") == (0, "a.py:3: warning: odd␛[2J\n", "")
    assert cli("check").code == 1
    assert checked[-1] == [tmp_path / "scripts"]
    assert json.loads(cli("check", "--json").out)[0]["severity"] == "error"


@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        (["ru"], ["run"]),
        (["--o"], ["--on"]),
        (["run", "h"], ["hello", "hostile"]),
        (["--on", "fake://here", "run", "rep"], ["reports/daily"]),
        (["run", "hello", ""], ["name=", "times=", "tone="]),
        (["run", "hello", "name=x", "t"], ["times=", "tone="]),
        (["run", "hello", "tone="], ["tone=cold", "tone=warm"]),
        (["run", "echo", ""], []),
        (["run", "echo", "--", ""], []),
        (["run", "hello", "--ke"], ["--key"]),
        (["show", "hel"], ["hello"]),
        (["wait", ""], ["job-1"]),
        (["completion", "z"], ["zsh"]),
        (["token", "n"], ["new"]),
        (["--on", "fake://down", "run", ""], []),
        (["nonsense", ""], sorted(COMMANDS)),
        ([], sorted(COMMANDS)),
    ],
)
def test_words_are_completed(cli: Cli, words: list[str], candidates: list[str]) -> None:
    cli("submit", "--no-stdin", "silent")
    assert cli("_complete", *words) == (0, "".join(f"{word}\n" for word in candidates), "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_completion(cli: Cli, shell: str) -> None:
    assert "remoterun _complete" in cli("completion", shell).out
    assert cli("completion", "cmd").code == 125


def test_a_time_is_a_date_or_how_long_ago() -> None:
    assert moment("2026-11-01T08:30:00Z", "--since") == datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
    ago = moment("2h", "--since")
    assert ago is not None
    assert 7190 < (datetime.now(UTC) - ago).total_seconds() < 7300
    assert moment(None, "--since") is None
    for text in ("never", "1e30w", "9999999999w"):
        with pytest.raises(Invalid, match="--since"):
            moment(text, "--since")


def test_how_long_something_took_is_short() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert seconds_between(start, start.replace(microsecond=12_345)) == "0.0123s"
    assert seconds_between(start, start.replace(minute=2, second=5)) == "2m05s"
    assert seconds_between(start, start.replace(hour=3, minute=2)) == "3h02m00s"
    assert seconds_between(start, None) == ""
