"""The folder of environments: only what is whole counts, only what is old goes."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from pathlib import Path

import pytest

from remoterun.environments import EnvironmentFolder
from remoterun.environments.equipment import equip
from remoterun.environments.uv import NoUv, find_uv, uv_environment

KEY, OTHER = "a" * 32, "b" * 32
DAY = 86400.0


@pytest.fixture
def folder(tmp_path: Path) -> EnvironmentFolder:
    folder = EnvironmentFolder(tmp_path / "environments")
    folder.prepare()
    return folder


def make(folder: EnvironmentFolder, key: str, age: float = 0.0) -> Path:
    home = folder.home(key)
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").write_text("")
    (home / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    marker = home / "remoterun.json"
    marker.write_text(json.dumps({"key": key}))
    moment = time.time() - age
    os.utime(marker, (moment, moment))
    return home


def test_it_is_ours_alone(folder: EnvironmentFolder) -> None:
    assert folder.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("marker", [b"", b"\0\0", b"[]", b'{"key": "other"}', b"{"])
def test_what_has_no_right_marker_is_not_built(folder: EnvironmentFolder, marker: bytes) -> None:
    home = make(folder, KEY)
    assert folder.is_built(KEY)
    (home / "remoterun.json").write_bytes(marker)
    assert not folder.is_built(KEY)


def test_what_has_no_interpreter_is_not_built(folder: EnvironmentFolder) -> None:
    home = make(folder, KEY)
    (home / "bin" / "python").unlink()
    (home / "bin" / "python").symlink_to("/nowhere")
    assert not folder.is_built(KEY)


def test_only_the_old_and_unneeded_goes(folder: EnvironmentFolder) -> None:
    make(folder, KEY, age=3 * DAY)
    make(folder, OTHER, age=3 * DAY)
    before = time.time() - 2 * DAY
    assert folder.prune([KEY], before) == [OTHER]
    assert folder.is_built(KEY)
    assert folder.prune([], before) == []  # it was noted as needed
    assert sorted(path.name for path in folder.path.iterdir()) == [KEY, f"{KEY}.lock"]


def test_scraps_of_dead_builds_go_and_living_ones_stay(folder: EnvironmentFolder) -> None:
    dead, living = (folder.path / f".part-{key}-1-2" for key in (KEY, OTHER))
    for path in (dead, living):
        (path / "environment").mkdir(parents=True)
    strange = folder.path / "notes.txt"
    strange.write_text("somebody else's")
    with folder.locked(OTHER, wait=True) as is_ours:
        assert is_ours
        assert folder.prune([], time.time()) == []
        assert living.exists()
    assert not dead.exists()
    assert strange.exists()
    folder.prune([], time.time())
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_a_lock_is_held_by_one(folder: EnvironmentFolder) -> None:
    with folder.locked(KEY, wait=True), folder.locked(KEY, wait=False) as second:
        assert not second
    with folder.locked(KEY, wait=False) as third:
        assert third


def test_a_lock_file_that_was_removed_is_no_lock(folder: EnvironmentFolder) -> None:
    path = folder.path / f"{KEY}.lock"
    with folder.locked(KEY, wait=True):
        path.unlink()
        with folder.locked(KEY, wait=True) as is_ours:
            assert is_ours
            assert path.exists()


def test_equipment_is_renewed_and_says_where_it_is_from_its_own_place(folder: EnvironmentFolder) -> None:
    home = make(folder, KEY)
    equip(home, folder.typed(KEY))
    module = home / "share" / "remoterun" / "path" / "remoterun" / "script.py"
    assert "def progress(" in module.read_text()
    module.write_text("old")
    equip(home, folder.typed(KEY))
    assert "def progress(" in module.read_text()
    site = home / "lib" / "python3.11" / "site-packages"
    named = (site / (site / "remoterun.pth").read_text().strip()).resolve()
    assert named == module.parent.parent.resolve()


def test_uv_sees_its_own_settings_and_nothing_else_of_the_nodes(tmp_path: Path) -> None:
    node = {
        "PATH": "/bin",
        "HOME": "/h",
        "UV_DEFAULT_INDEX": "https://localhost/simple",
        "UV_PYTHON": "3.12",
        "UV_PYTHON_DOWNLOADS": "automatic",
        "HTTPS_PROXY": "http://localhost:1",
        "AWS_SECRET_ACCESS_KEY": "x",
        "REMOTERUN_TOKEN": "x",
        "VIRTUAL_ENV": "/v",
        "PYTHONPATH": "/p",
    }
    seen = uv_environment(node, tmp_path)
    assert seen["UV_PYTHON_DOWNLOADS"] == "never"
    wanted = {"PATH", "HOME", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "UV_PYTHON_DOWNLOADS", "UV_NO_PROGRESS", "NO_COLOR"}
    assert seen.keys() - {"UV_SYSTEM_CERTS"} == wanted  # which is there where the system has certificates


def test_uv_has_a_cache_where_there_is_no_home(tmp_path: Path) -> None:
    assert uv_environment({}, tmp_path)["UV_CACHE_DIR"] == str(tmp_path / "cache")
    assert "UV_CACHE_DIR" not in uv_environment({"HOME": "/h"}, tmp_path)


def test_a_missing_uv_is_said_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoUv, match=r"pip install 'remoterun\[environments\]'"):
        find_uv()
