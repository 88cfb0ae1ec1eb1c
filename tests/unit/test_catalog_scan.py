"""Names come from a walk; what others could have written is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.catalog.defect import Defect
from remoterun.catalog.scan import distrust, scan
from remoterun.catalog.versions import MAX_BYTES, Versions, read_script


def write(path: Path, text: str = "print()\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(*folders: Path) -> set[str]:
    return set(scan([os.path.realpath(folder) for folder in folders]))


def test_a_name_is_the_path_without_its_ending(tmp_path: Path) -> None:
    for name in ("hello", "reports/daily", "reports/2026/x.y", "größe"):
        write(tmp_path / f"{name}.py")
    assert names(tmp_path) == {"hello", "reports/daily", "reports/2026/x.y", "größe"}


def test_what_is_no_script_is_not_found(tmp_path: Path) -> None:
    for path in ("_lib.py", ".x.py", "_lib/a.py", ".git/a.py", "readme.md", "a.pyc", "__init__.py", "a*.py", "a\n.py"):
        write(tmp_path / path)
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py")).write_text("")
    assert names(tmp_path) == set()


def test_a_folder_with_a_scripts_ending_holds_scripts(tmp_path: Path) -> None:
    write(tmp_path / "v1.py" / "a.py")
    assert names(tmp_path) == {"v1.py/a"}


def test_the_first_folder_that_has_a_name_wins(tmp_path: Path) -> None:
    first = write(tmp_path / "1" / "a.py")
    write(tmp_path / "2" / "a.py")
    write(tmp_path / "2" / "b.py")
    found = scan([str(tmp_path / "1"), str(tmp_path / "2")])
    assert found["a"].path == str(first)
    assert set(found) == {"a", "b"}


def test_links_that_lead_out_are_not_found(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "x.py")
    scripts = tmp_path / "scripts"
    write(scripts / "real.py")
    (scripts / "out.py").symlink_to(outside)
    (scripts / "nothing.py").symlink_to(tmp_path / "missing.py")
    (scripts / "folder").symlink_to(outside.parent, target_is_directory=True)
    (scripts / "loop").symlink_to(scripts, target_is_directory=True)
    (scripts / "alias.py").symlink_to("real.py")
    assert names(scripts) == {"real", "alias"}


def test_a_folder_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    outside = write(tmp_path / "scripts-old" / "x.py")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "x.py").symlink_to(outside)
    assert names(tmp_path / "scripts") == set()


def test_a_folder_that_is_gone_counts_as_empty(tmp_path: Path) -> None:
    assert names(tmp_path / "gone") == set()


def test_a_file_that_everybody_can_write_is_refused_with_what_to_type(tmp_path: Path) -> None:
    path = write(tmp_path / "a b.py")
    path.chmod(0o666)
    refused = scan([str(tmp_path)])["a b"].refused
    assert refused is not None
    assert f"chmod o-w '{path}'" in refused


@pytest.mark.parametrize("writable", ["", "inner"])
def test_a_file_in_a_folder_that_everybody_can_write_is_refused(tmp_path: Path, writable: str) -> None:
    write(tmp_path / "inner" / "deep" / "a.py")
    (tmp_path / writable).chmod(0o777)
    refused = scan([str(tmp_path)])["inner/deep/a"].refused
    assert refused is not None
    assert f"chmod o-w {tmp_path / writable}" in refused


def test_a_link_into_a_folder_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "_store" / "a.py")
    (tmp_path / "_store").chmod(0o777)
    (tmp_path / "a.py").symlink_to("_store/a.py")
    assert scan([str(tmp_path)])["a"].refused is not None


def status(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "trusted"),
    [
        (0o644, os.geteuid(), os.getegid(), True),
        (0o644, 0, 4711, True),
        (0o664, os.geteuid(), os.getegid(), True),
        (0o664, os.geteuid(), 4711, False),
        (0o646, os.geteuid(), os.getegid(), False),
        (0o600, 4711, os.getegid(), False),
    ],
)
def test_who_may_have_written_a_script(mode: int, uid: int, gid: int, trusted: bool) -> None:
    assert (distrust("/x", status(mode, uid, gid)) is None) is trusted


def test_the_very_file_that_is_read_is_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py")
    assert read_script(str(path)) == b"print()\n"
    path.chmod(0o666)
    with pytest.raises(Defect, match="chmod"):
        read_script(str(path))


@pytest.mark.parametrize("size", [MAX_BYTES, MAX_BYTES + 1])
def test_a_script_has_at_most_1_mib(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.py", "#" * size)
    if size <= MAX_BYTES:
        assert len(read_script(str(path))) == size
    else:
        with pytest.raises(Defect, match="larger than 1 MiB"):
            read_script(str(path))


def test_a_named_pipe_does_not_hold_the_reader_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.py")
    with pytest.raises(Defect, match="no regular file"):
        read_script(str(tmp_path / "a.py"))


def test_a_copy_is_ours_alone_and_whole(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "data" / "versions")
    versions.prepare()
    version = versions.keep(b"print()\n")
    source = versions.source(version)
    assert source.read_bytes() == b"print()\n"
    assert stat.S_IMODE(source.stat().st_mode) == 0o600
    assert versions.load(version) == b"print()\n"


def test_a_copy_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    version = versions.keep(b"print()\n")
    versions.source(version).write_bytes(b"")
    assert versions.load(version) is None
    versions.keep(b"print()\n")
    assert versions.load(version) == b"print()\n"


@given(st.text() | st.sampled_from(["../x", "/etc/passwd", "\0", ".", "", "a" * 64, "A" * 64, "..%2f"]))
def test_no_text_but_a_version_gives_a_copy(version: str) -> None:
    assert Versions(Path("/")).load(version) is None
