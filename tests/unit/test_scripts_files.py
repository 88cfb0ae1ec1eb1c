"""The scripts that work on folders, databases and tables, and the plain ones, run as files."""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def load(name: str) -> Callable[..., Any]:
    main: Callable[..., Any] = runpy.run_path(str(SCRIPTS / f"{name}.py"))["main"]
    return main


def run(
    name: str, *args: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, cwd=cwd)


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "artifacts"
    monkeypatch.setenv("REMOTERUN_ARTIFACTS", str(folder))
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a large and a small subfolder, a file with two names and a link."""
    root = tmp_path / "tree"
    (root / "large/deep").mkdir(parents=True)
    (root / "small").mkdir()
    (root / "large/deep/data").write_bytes(b"x" * 200_000)
    (root / "small/note.txt").write_bytes(b"hi")
    os.link(root / "large/deep/data", root / "small/same")
    (root / "link").symlink_to("large")
    return root


def test_disk_report_names_the_largest(tree: Path) -> None:
    answer = load("disk_report")(tree, top=2)
    assert [folder["path"] for folder in answer["largest_folders"]] == ["large", "large/deep"]
    assert answer["largest_files"][0]["bytes"] >= 200_000
    assert answer["folders"] == 3
    assert answer["files"] == 3  # data under one of its names, the note, the link
    assert 200_000 <= answer["bytes"] < 400_000
    assert answer["complete"]
    json.dumps(answer)


def test_disk_report_counts_what_du_counts(tree: Path) -> None:
    du = subprocess.run(["du", "-s", "-B", "512", tree], capture_output=True, text=True, check=True)
    root = tree.stat().st_blocks * 512
    assert load("disk_report")(tree)["bytes"] + root == int(du.stdout.split()[0]) * 512


def test_disk_report_stops_at_its_bound(tree: Path) -> None:
    assert not load("disk_report")(tree, max_entries=2)["complete"]


def test_disk_report_wants_a_folder(tree: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        load("disk_report")(tree / "missing")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop[1].db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode=wal")
        with connection:
            connection.execute("create table orders (id integer primary key, text)")
            connection.executemany("insert into orders values (?, ?)", ((n, "x" * 500) for n in range(2000)))
    return path


def test_sqlite_backup_copies_a_database_in_use(database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("insert into orders values (2000, 'committed')")
        writer.commit()
        writer.execute("insert into orders values (2001, 'not yet')")
        answer = load("sqlite_backup")(database, tmp_path / "backups")
    with closing(sqlite3.connect(answer["backup"])) as copy:
        assert copy.execute("select count(*) from orders").fetchone() == (2001,)
    assert answer["bytes"] > 1_000_000


def test_sqlite_backup_keeps_the_newest_of_its_own(database: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    foreign = folder / "shop-20200101T000000.000000Z.sqlite3"
    foreign.touch()
    taken = [load("sqlite_backup")(database, folder, keep=2) for _ in range(3)]
    assert taken[2]["removed"] == [taken[0]["backup"]]
    assert sorted(map(str, folder.iterdir())) == sorted([str(foreign), taken[1]["backup"], taken[2]["backup"]])


def test_sqlite_backup_refuses_what_is_no_database(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match="cannot be backed up"):
        load("sqlite_backup")(text, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []
    with pytest.raises(ValueError, match="there is no database"):
        load("sqlite_backup")(tmp_path / "missing", tmp_path / "backups")


def test_sqlite_backup_gives_up_on_a_lock(database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as owner:
        owner.execute("pragma locking_mode=exclusive")
        owner.execute("insert into orders values (2000, 'mine')")
        owner.commit()
        with pytest.raises(ValueError, match="locked for 0"):
            load("sqlite_backup")(database, tmp_path / "backups", patience=0.01)
    assert list((tmp_path / "backups").iterdir()) == []


def test_sqlite_backup_finds_damage(database: Path, tmp_path: Path) -> None:
    with database.open("r+b") as file:
        file.seek(4096 * 5)
        file.write(b"\xff" * 4096)
    with pytest.raises(ValueError, match="cannot be backed up"):
        load("sqlite_backup")(database, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


TABLE = """\
name,age,height,born,note
Ada,36,1.65,1815-12-10,
Zoë,41,-1e2,1990-01-02,"a, b"
Bob,,2,2000-02-29
"""


def test_csv_summary_knows_each_column(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("\ufeff" + TABLE, encoding="utf-8")
    answer = load("csv_summary")(file)
    assert (answer["rows"], answer["ragged_rows"]) == (3, 1)
    by_name = {column["name"]: column for column in answer["columns"]}
    assert {name: column["type"] for name, column in by_name.items()} == {
        "name": "text",
        "age": "integer",
        "height": "number",
        "born": "date",
        "note": "text",
    }
    assert by_name["age"] == {
        "name": "age",
        "type": "integer",
        "filled": 2,
        "empty": 1,
        "distinct": 2,
        "distinct_at_least": False,
        "min": 36,
        "max": 41,
        "mean": 38.5,
    }
    assert by_name["height"]["min"] == -100
    assert by_name["born"]["max"] == "2000-02-29"
    assert (by_name["note"]["filled"], by_name["note"]["empty"]) == (1, 2)
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "rows", "types"),
    [("", 0, []), ("a;b\n", 0, ["empty", "empty"]), ("a\nnan\n1\n", 2, ["text"]), (f"a\n{'9' * 30}\n", 1, ["number"])],
)
def test_csv_summary_of_edges_on_stdin(monkeypatch: pytest.MonkeyPatch, text: str, rows: int, types: list[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    answer = load("csv_summary")(delimiter=";")
    assert answer["rows"] == rows
    assert [column["type"] for column in answer["columns"]] == types


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"a\n\xff\n", {}, "no CSV table"),
        (b'a\n"b" c\n', {}, "no CSV table"),
        (b"a\n", {"delimiter": ";;"}, "delimiter"),
        (b"a\n", {"encoding": "klingon"}, "no encoding 'klingon'"),
    ],
)
def test_csv_summary_says_what_is_wrong(tmp_path: Path, data: bytes, options: dict[str, str], message: str) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load("csv_summary")(file, **options)


def test_daily_reports_one_day(artifacts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    today, long_ago = folder / "new <b>.txt", folder / "old.txt"
    for path, moment in ((today, datetime(2026, 11, 25, 12)), (long_ago, datetime(2020, 1, 1))):
        path.touch()
        os.utime(path, (moment.timestamp(), moment.timestamp()))
    log = b"2026-11-25 09:00 ERROR disk\n2026-11-25 10:00 fine\n2026-11-24 ERROR old\n2026-11-25 INFO \xff\n"
    (folder / "app.log").write_bytes(log)
    os.utime(folder / "app.log", (0, 0))
    answer = load("reports/daily")(folder, date(2026, 11, 25))
    assert (answer["files"], answer["changed"]) == (3, 1)
    assert answer["latest"] == [{"path": "new <b>.txt", "time": "2026-11-25T12:00:00"}]
    assert answer["log_lines"] == {"ERROR": 1, "other": 1, "INFO": 1}
    page = (artifacts / "report.md").read_text(encoding="utf-8")
    assert "| 12:00:00 | new \\<b\\>.txt |" in page
    assert "| ERROR | 1 |" in page


def test_daily_of_an_empty_folder(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert load("reports/daily")(tmp_path / "empty")["changed"] == 0
    assert "0 of 0 files changed." in (artifacts / "report.md").read_text()
    with pytest.raises(ValueError, match="there is no folder"):
        load("reports/daily")(tmp_path / "missing")


def test_backup_packs_a_folder(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "backups"
    result = tmp_path / "result.json"
    ended = run("backup", "--full", tree, "--to", target, env={"REMOTERUN_RESULT": str(result)})
    assert (ended.returncode, ended.stderr) == (0, "")
    (archive,) = target.iterdir()
    assert str(archive) in ended.stdout
    assert json.loads(result.read_text()) == {"archive": str(archive), "kind": "full", "files": 4, "left_out": []}
    with tarfile.open(archive) as tar:
        names = {Path("/", name).relative_to(tree).as_posix() for name in tar.getnames()}
    assert names == {".", "large", "large/deep", "large/deep/data", "small", "small/note.txt", "small/same", "link"}


def test_backup_then_packs_what_changed(tree: Path, tmp_path: Path) -> None:
    target = tree / "backups"  # inside: archives do not hold archives
    assert run("backup", tree, "--to", target).stdout.startswith("full backup of 4 files")
    (tree / "small/new.txt").write_text("new")
    ended = run("backup", tree, "--to", target)
    assert ended.stdout.startswith("incremental backup of 1 files")
    newest = max(target.iterdir())
    with tarfile.open(newest) as tar:
        assert [Path(name).name for name in tar.getnames() if name.endswith(".txt")] == ["new.txt"]


def test_backup_without_a_target_leaves_an_artifact(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    assert run("backup", tree, env={"REMOTERUN_ARTIFACTS": str(folder)}).returncode == 0
    assert [path.name.endswith("-full.tar.gz") for path in folder.iterdir()] == [True]


@pytest.mark.parametrize("args", [[], ["--wrong"], ["/nowhere/at/all"]])
def test_backup_explains_its_arguments(args: list[str], tmp_path: Path) -> None:
    ended = run("backup", *args, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: backup ")
    assert list(tmp_path.iterdir()) == []


def test_backup_packs_a_fifo_and_a_dangling_link(tree: Path, tmp_path: Path) -> None:
    fifo = tree / "fifo"
    os.mkfifo(fifo)
    gone = tree / "gone"
    gone.symlink_to("/nowhere")
    ended = run("backup", "--full", tree, "--to", tmp_path / "backups")
    assert ended.returncode == 0
    assert "full backup of 6 files" in ended.stdout


def test_countdown_counts() -> None:
    ended = run("countdown", "3", "--every", "0")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3\n2\n1\nlift-off\n", "")


@pytest.mark.parametrize("args", [["-1"], ["many"], ["3", "--every", "-1"], ["3", "--every", "nan"]])
def test_countdown_explains_its_arguments(args: list[str]) -> None:
    ended = run("countdown", *args)
    assert ended.returncode == 2
    assert "usage: countdown" in ended.stderr


def test_countdown_ends_well_on_sigterm() -> None:
    command = [sys.executable, str(SCRIPTS / "countdown.py"), "1000", "--every", "3600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1000\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "stopped before the end\n"
        assert process.wait() == 143
