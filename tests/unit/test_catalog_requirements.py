"""What a metadata block asks for beyond the standard library, and the lock file beside the script."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from remoterun.catalog import requirements
from remoterun.catalog.defect import Defect
from remoterun.catalog.metadata import Metadata, parse
from remoterun.environments import Needs

SIX = 'dependencies = ["six"]'


def metadata(*lines: str) -> Metadata:
    return parse("".join(f"# {line}\n" for line in ("/// script", *lines, "///")))


def read(folder: Path, *lines: str) -> Needs | None:
    return requirements.read(metadata(*lines), str(folder / "hello.py"))


def key(folder: Path, *lines: str) -> str:
    needs = read(folder, *lines)
    assert needs is not None
    return needs.key


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ['requires-python = ">=3.11"'],
        [f'requires-python = "=={sys.version_info[0]}.{sys.version_info[1]}.*"'],
        ["dependencies = []"],
        ["[tool.uv]", 'exclude-newer = "2026-01-01T00:00:00Z"'],
    ],
)
def test_the_nodes_own_environment_suffices(tmp_path: Path, lines: list[str]) -> None:
    assert read(tmp_path, *lines) is None


@pytest.mark.parametrize(
    "lines", [[SIX], ['requires-python = ">=9"'], ['dependencies = ["x @ https://localhost/x.whl"]']]
)
def test_an_environment_of_its_own_is_needed(tmp_path: Path, lines: list[str]) -> None:
    needs = read(tmp_path, *lines)
    assert needs is not None
    assert (needs.script, needs.block, needs.lock) == ("hello.py", "\n".join(lines), None)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('requires-python = "new"', "is no version range"),
        ("requires-python = 3.11", "is no version range"),
        ('dependencies = ["=="]', "is no requirement"),
        ('dependencies = "pydantic"', "must be a list"),
        ("dependencies = [3]", "must be a list"),
    ],
)
def test_what_is_malformed_is_named_with_its_line(tmp_path: Path, line: str, text: str) -> None:
    with pytest.raises(Defect, match=text) as caught:
        read(tmp_path, line)
    assert caught.value.line == 2


def test_equal_needs_have_one_key(tmp_path: Path) -> None:
    same = [
        ['dependencies = ["six", "tomli>=2"]'],
        ['dependencies = ["tomli>=2", "six"]', "[tool.remoterun]", 'timeout = "1s"'],
        ["dependencies = [", '  "tomli>=2",', '  "six",', "]"],
    ]
    assert len({key(tmp_path, *lines) for lines in same}) == 1
    (tmp_path / "other").mkdir()
    assert key(tmp_path / "other", *same[0]) == key(tmp_path, *same[0])


def test_other_needs_have_another_key(tmp_path: Path) -> None:
    variants = [
        [SIX],
        ['dependencies = ["six>1"]'],
        [SIX, 'requires-python = ">=3.11"'],
        [SIX, "[tool.uv]", 'exclude-newer = "2026-01-01T00:00:00Z"'],
    ]
    keys = {key(tmp_path, *lines) for lines in variants}
    for text in ("version = 1\n", "version = 2\n"):
        (tmp_path / "hello.py.lock").write_text(text)
        keys.add(key(tmp_path, SIX))
    assert len(keys) == len(variants) + 2


def test_a_lock_file_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "hello.py.lock").write_bytes(b"\xff\n")
    needs = read(tmp_path, SIX)
    assert needs is not None
    assert needs.lock == b"\xff\n"


def writable(path: Path) -> None:
    path.write_text("")
    path.chmod(0o666)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**30)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (writable, "written by everybody"),
        (large, "larger than 4 MiB"),
        (os.mkfifo, "no regular file"),
        (os.mkdir, "no reg"),
    ],
)
def test_a_lock_file_that_cannot_be_trusted_breaks_the_script(tmp_path: Path, make: object, text: str) -> None:
    make(tmp_path / "hello.py.lock")  # type: ignore[operator]
    with pytest.raises(Defect, match=text):
        read(tmp_path, SIX)
