"""What keeps a node from starting: one clear line that says what to do, and no traceback."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remoterun.errors import Unavailable
from remoterun.testing import NodeDidNotStart, running_node

ADD = "def main(a: int, b: int) -> int:\n    return a + b\n"


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "add.py").write_text(ADD)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give the data folder of a node that has run a job."""
    folder = tmp_path / "data"
    source = tmp_path / "first"
    source.mkdir()
    (source / "add.py").write_text(ADD)
    with running_node(source, data=folder) as node, node.connect() as client:
        client.run("add", a=1, b=2)
    return folder


def _refusal(scripts: Path, **options: object) -> str:
    """Start a node that cannot start, and give the one line that it says."""
    with pytest.raises(NodeDidNotStart) as failed, running_node(scripts, **options):  # type: ignore[arg-type]
        pass
    assert failed.value.exit_code not in (0, None)
    lines = failed.value.log.strip().splitlines()
    said = [line for line in lines if line.startswith("remoterun: ")]
    assert "Traceback" not in failed.value.log, failed.value.log
    assert len(said) == 1, failed.value.log
    return said[0]


def test_a_second_node_on_the_same_data(scripts: Path, data: Path) -> None:
    with running_node(scripts, data=data) as first:
        said = _refusal(scripts, data=data)
        assert f"process {first.pid}" in said
        assert str(data) in said
        assert "--data" in said
        with first.connect() as client:
            assert client.run("add", a=1, b=2) == 3
    with running_node(scripts, data=data) as again, again.connect() as client:
        assert client.run("add", a=2, b=2) == 4


@pytest.mark.parametrize("section", ["socket", "http", "rpc"])
def test_a_port_that_is_in_use(scripts: Path, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _refusal(scripts, **{section: {"listen": [f"127.0.0.1:{port}"]}})
    assert f"127.0.0.1:{port}" in said
    assert "in use" in said
    assert section in said


@pytest.mark.parametrize("section", ["socket", "http", "rpc"])
def test_an_open_address_without_tls(scripts: Path, section: str) -> None:
    said = _refusal(scripts, **{section: {"listen": ["0.0.0.0:0"]}})
    assert section in said
    assert "insecure_listen" in said or "insecure-listen" in said


def test_a_scripts_folder_that_is_not_there(scripts: Path) -> None:
    said = _refusal(scripts / "none")
    assert str(scripts / "none") in said
    assert "mkdir" in said


def test_a_scripts_folder_that_is_a_file(scripts: Path) -> None:
    assert str(scripts / "add.py") in _refusal(scripts / "add.py")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"workers": "many"}, ["line", "workers"]),
        ({"workers": -1}, ["line", "workers"]),
        ({"wokers": 3}, ["line", "wokers", "did you mean workers"]),
        ({"limits": {"request": "huge"}}, ["line", "limits.request", "512MB"]),
        ({"grace": "soon"}, ["line", "grace", "30s"]),
        ({"http": {"lisen": ["127.0.0.1:0"]}}, ["line", "http.lisen", "did you mean http.listen"]),
        ({"log_level": "loud"}, ["line", "log_level", "debug"]),
        ({"principals": {"p": {"scopes": ["everything"]}}}, ["principals.p", "everything", "run:<glob>"]),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_broken_setting(scripts: Path, settings: dict[str, object], expected: list[str]) -> None:
    said = _refusal(scripts, **settings)
    assert [part for part in expected if part not in said] == []


def test_a_broken_setting_of_the_environment(scripts: Path) -> None:
    assert "REMOTERUN_QUEUE" in _refusal(scripts, env={"REMOTERUN_QUEUE": "long"})


def test_a_corrupt_database(scripts: Path, data: Path) -> None:
    database = data / "remoterun.sqlite3"
    database.write_bytes(b"this is no database at all, whatever it is called" * 200)
    said = _refusal(scripts, data=data)
    assert str(database) in said
    assert database.read_bytes().startswith(b"this is no database"), "it must be left for its owner to look at"


def test_a_database_of_a_newer_version(scripts: Path, data: Path) -> None:
    database = data / "remoterun.sqlite3"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    said = _refusal(scripts, data=data)
    assert str(database) in said
    assert "newer" in said


def test_a_broken_file_of_tokens(scripts: Path, data: Path) -> None:
    (data / "tokens.json").write_text("{")
    assert "tokens.json" in _refusal(scripts, data=data)


def test_a_data_folder_that_cannot_be_made(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = _refusal(scripts, data=tmp_path / "file" / "data")
    assert "--data" in said
    assert "Not a directory" in said


def _serve_by_permissions(scripts: Path, data: Path) -> subprocess.CompletedProcess[str]:
    """Start a node for which permissions count, also where the tests run as root."""
    bound = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    run = "import sys; from remoterun.cli import main; sys.exit(main())"
    return subprocess.run(
        [*bound, sys.executable, "-c", run, "serve", scripts, "--data", data],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that its owner may not write to, nor look into."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def test_a_data_folder_without_permission(scripts: Path, locked: Path) -> None:
    refused = _serve_by_permissions(scripts, locked / "data")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert f"the data folder {locked / 'data'} cannot be used: Permission denied" in refused.stderr
    assert "--data" in refused.stderr


def test_a_scripts_folder_without_permission(locked: Path, tmp_path: Path) -> None:
    refused = _serve_by_permissions(locked, tmp_path / "data")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert str(locked) in refused.stderr
    assert "ermission" in refused.stderr


def test_a_script_that_others_can_write_is_not_called(scripts: Path) -> None:
    (scripts / "open.py").write_text("print('whose?')\n")
    (scripts / "open.py").chmod(0o666)
    with running_node(scripts) as node, node.connect() as client:
        assert "can be written by everybody" in (client.describe("open").broken or "")
        with pytest.raises(Unavailable, match="chmod o-w"):
            client.run("open")
        assert client.run("add", a=1, b=2) == 3
        (scripts / "open.py").chmod(0o644)
        while client.describe("open").broken:
            pass  # the folder is watched: the end of the test's own time bounds this
        client.run("open")
