"""Backups of a running node: a node started on a copy of one has all of it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remoterun.errors import Conflict, Unavailable
from remoterun.failpoints import VARIABLE
from remoterun.messages import Backup
from remoterun.states import State
from remoterun.testing import RunningNode, running_node

SCRIPTS = {
    "leaves.py": """
import time
from pathlib import Path
from typing import Annotated
from remoterun import script


def main(text: str, sent: Annotated[Path, script.Upload] | None = None, gate: str = "") -> dict[str, str]:
    print("printed", text)
    script.artifact("left.txt").write_text(text)
    while gate and not Path(gate).exists():
        time.sleep(0.01)
    return {"text": text, "sent": sent.read_text() if sent else ""}
""",
    "secret.py": """
from pydantic import SecretStr


def main(word: SecretStr) -> int:
    return len(word.get_secret_value())
""",
}
_PATIENCE = 30.0


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def node(scripts: Path, tmp_path: Path) -> Iterator[RunningNode]:
    with running_node(scripts, data=tmp_path / "data", workers=1) as running:
        yield running


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def make_backup(node: RunningNode, scheme: str = "unix") -> Backup:
    with node.connect(scheme) as client:
        return client.session.backup()


def restored(made: Backup, folder: Path) -> Path:
    return Path(shutil.copytree(made.path, folder))


def test_a_node_on_a_copy_has_jobs_files_tokens_and_waiting_calls(
    node: RunningNode, scripts: Path, tmp_path: Path
) -> None:
    token, gate = node.new_token(["run", "read"], name="ci"), tmp_path / "gate"
    with node.connect("tcp", token) as client:
        sent = tmp_path / "sent.txt"
        sent.write_text("by the caller")
        done = client.submit("leaves", text="ä", sent=sent)
        assert done.result() == {"text": "ä", "sent": "by the caller"}
        running = client.submit("leaves", text="runs", gate=str(gate))
        eventually(lambda: running.refresh().state is State.RUNNING, "it runs")
        waiting = client.submit("secret", word="sesame")
        made = make_backup(node)
        gate.touch()
        assert waiting.result() == 6
    # A later version of the script is not the one that the job was of.
    (scripts / "leaves.py").write_text("def main() -> None: ...\n")
    with (
        running_node(scripts, data=restored(made, tmp_path / "copy"), workers=1) as copy,
        copy.connect("tcp", token) as client,
    ):
        old = client.job(done.id)
        assert old.result() == {"text": "ä", "sent": "by the caller"}
        assert old.output() == "printed ä\n".encode()
        assert old.artifact("left.txt").read() == "ä".encode()
        assert old.rerun().result() == {"text": "ä", "sent": "by the caller"}
        assert client.job(running.id).wait().state is State.LOST
        assert client.job(waiting.id).result() == 6  # sealed, it was; the key came along


def test_a_backup_is_private_whole_and_small_where_it_can_link(node: RunningNode) -> None:
    with node.connect() as client:
        job = client.submit("leaves", text="x").wait()
    made = make_backup(node)
    folder = Path(made.path)
    assert folder.parent == node.data / "backups"
    assert folder.name == made.name
    assert folder.stat().st_mode & 0o077 == 0
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert made.files == len(files)
    assert made.bytes == sum(path.stat().st_size for path in files)
    left = Path("artifacts", job.id, "left.txt")
    assert (folder / left).stat().st_ino == (node.data / left).stat().st_ino
    assert (folder / "tokens.json").stat().st_ino != (node.data / "tokens.json").stat().st_ino
    assert node.token not in "".join(path.read_text(errors="replace") for path in files)
    with sqlite3.connect(f"file:{folder / 'remoterun.sqlite3'}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_command_prints_where_it_is(node: RunningNode) -> None:
    def remoterun(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "remoterun", *words, "--data", str(node.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment())

    said = remoterun("backup")
    assert said.returncode == 0, said.stderr
    assert (Path(said.stdout.strip()) / "remoterun.sqlite3").exists()
    assert said.stderr == ""
    told = json.loads(remoterun("backup", "--json").stdout)
    assert Path(told["path"]).name == told["name"]
    node.stop()
    refused = remoterun("backup")
    assert refused.returncode == 125
    assert "no node answers" in refused.stderr


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REMOTERUN_")}


def test_backups_are_made_by_the_clock_and_the_oldest_go(scripts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    settings = {"folder": str(folder), "every": "300ms", "keep": 2}
    with running_node(scripts, data=tmp_path / "data", backup=settings):
        first = eventually(lambda: whole(folder), "one is made at once")[0]
        eventually(lambda: whole(folder) and first not in whole(folder), "the first one has gone")
        assert len(whole(folder)) <= 3  # one may just have been added


def whole(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[0-9]*")) if folder.exists() else []


def test_what_a_dead_node_had_begun_is_no_backup(node: RunningNode) -> None:
    begun = node.data / "backups" / ".unfinished"
    begun.mkdir(parents=True)
    (begun / "remoterun.sqlite3").write_bytes(b"half")
    made = make_backup(node)
    assert whole(node.data / "backups") == [made.name]
    assert not begun.exists()


def test_a_folder_that_cannot_be_written(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        running_node(scripts, backup={"folder": str(tmp_path / "file" / "backups")}) as node,
        pytest.raises(Unavailable, match="no backup into"),
    ):
        make_backup(node)


def test_a_full_disk_ends_the_backup_and_not_the_node(scripts: Path, tmp_path: Path) -> None:
    with running_node(scripts, data=tmp_path / "data", env={VARIABLE: "store.copy=error:ENOSPC@1"}) as node:
        with node.connect() as client:
            done = client.submit("secret", word="x").wait()
            with pytest.raises(Unavailable, match="the disk is full"):
                client.session.backup()
            assert whole(node.data / "backups") == []
            assert not (node.data / "backups" / ".unfinished").exists()
            assert client.run("secret", word="xy") == 2
        assert done.id in jobs_in(Path(make_backup(node).path) / "remoterun.sqlite3")


def test_one_at_a_time_and_the_node_serves_meanwhile(scripts: Path, tmp_path: Path) -> None:
    slowly = {VARIABLE: "store.copy=sleep:0.05"}
    with running_node(scripts, data=tmp_path / "data", env=slowly) as node:
        fill(node, tmp_path)
        made: list[Backup] = []
        making = threading.Thread(target=lambda: made.append(make_backup(node)))
        making.start()
        eventually(lambda: (node.data / "backups" / ".unfinished").exists(), "it has begun")
        with node.connect() as client:
            ran = client.submit("secret", word="x").id
            with pytest.raises(Conflict, match="is being made"):
                client.session.backup()
        making.join()
        assert ran in jobs_in(Path(made[0].path) / "remoterun.sqlite3")


def fill(node: RunningNode, tmp_path: Path) -> None:
    """Give the database some weight: the output of jobs, 12 MB each."""
    (tmp_path / "scripts" / "prints.py").write_text("print('x' * 79 * 150_000)\n")
    with node.connect() as client:
        eventually(lambda: any(script.name == "prints" for script in client.scripts()), "the script is seen")
        for _ in range(6):
            client.submit("prints").wait()


def jobs_in(database: Path) -> set[str]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return {str(row[0]) for row in connection.execute("SELECT id FROM jobs")}


def test_a_stop_gives_the_backup_up(scripts: Path, tmp_path: Path) -> None:
    with running_node(scripts, data=tmp_path / "data", env={VARIABLE: "store.copy=sleep:0.05"}) as node:
        fill(node, tmp_path)
        command = [sys.executable, "-m", "remoterun", "backup", "--data", str(node.data)]
        began = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean_environment())
        eventually(lambda: (node.data / "backups" / ".unfinished" / "remoterun.sqlite3").exists(), "it has begun")
        assert node.stop() == 0
        assert began.wait(_PATIENCE) == 125
        assert began.stderr is not None
        began.stderr.close()
        assert whole(node.data / "backups") == []
