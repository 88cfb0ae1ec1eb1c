"""The small scripts: each called as a node calls it, through `main`."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import runpy
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import create_model

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = sorted(path.relative_to(SCRIPTS).with_suffix("").as_posix() for path in SCRIPTS.rglob("*.py"))
NAMES = [
    name for name in NAMES if not (SCRIPTS / f"{name}.py").read_text().count("\n# dependencies = [")
]  # no packages
PLAIN = {"backup", "countdown"}


def load(name: str) -> Callable[..., Any]:
    main: Callable[..., Any] = runpy.run_path(str(SCRIPTS / f"{name}.py"))["main"]
    return main


@pytest.fixture
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "artifacts"
    monkeypatch.setenv("REMOTERUN_ARTIFACTS", str(folder))
    return folder


def give_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize("name", NAMES)
def test_every_script_says_what_it_is_for(name: str) -> None:
    module = runpy.run_path(str(SCRIPTS / f"{name}.py"))
    source = (SCRIPTS / f"{name}.py").read_text()
    assert module["__doc__"]
    assert "# /// script" in source
    assert ("main" in module) == (name not in PLAIN)
    if "main" in module and inspect.signature(module["main"]).parameters:
        arguments = module["__doc__"].partition("\nArgs:\n")[2]
        for parameter in inspect.signature(module["main"]).parameters:
            assert f"\n    {parameter}: " in f"\n{arguments}", f"{name} documents {parameter}"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PLAIN])
def test_every_signature_makes_a_schema(name: str) -> None:
    main = load(name)
    hints = get_type_hints(main)
    hints.pop("return")
    defaults = {key: value.default for key, value in inspect.signature(main).parameters.items()}
    fields: dict[str, Any] = {
        key: (hint, ... if defaults[key] is inspect.Parameter.empty else defaults[key]) for key, hint in hints.items()
    }
    assert set(create_model("Parameters", **fields).model_json_schema()["properties"]) == set(fields)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PLAIN])
def test_every_script_runs_as_a_file(name: str) -> None:
    subprocess.run([sys.executable, SCRIPTS / f"{name}.py"], check=True, stdin=subprocess.DEVNULL)


def test_hello_greets() -> None:
    assert load("hello")("Ada") == {"hello": "Ada"}


def test_clock_knows_zones() -> None:
    answer = load("clock")(zone="Asia/Kolkata")
    assert answer["offset"] == "+0530"
    assert datetime.fromisoformat(answer["time"]).utcoffset() is not None


@pytest.mark.parametrize(("format", "pattern"), [("mail", "+0000"), ("long", " UTC"), ("unix", "")])
def test_clock_writes_the_time_as_asked(format: str, pattern: str) -> None:
    assert load("clock")(format=format)["time"].endswith(pattern)


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("europe/berlin", "did you mean Europe/Berlin"),
        ("Tokyo", "Asia/Tokyo"),
        ("new york", "America/New_York"),
        ("../../etc/passwd", "write it like Europe/Berlin"),
        ("Europe", "no time zone 'Europe'"),
        ("", "no time zone ''"),
        ("UTC\0", "no time zone"),
    ],
)
def test_clock_helps_with_an_unknown_zone(zone: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        load("clock")(zone=zone)


@pytest.mark.parametrize("pattern", ["mandelbrot", "seahorses", "julia"])
@pytest.mark.parametrize("palette", ["fire", "ocean", "rainbow", "grey"])
def test_picture_is_a_real_png(artifacts: Path, pattern: str, palette: str) -> None:
    answer = load("picture")(pattern=pattern, palette=palette, size=24, depth=200)
    data = (artifacts / "picture.png").read_bytes()
    assert answer == {"picture": "picture.png", "width": 24, "height": 24, "bytes": len(data)}
    chunks = read_png(data)
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (24, 24, 8, 2, 0, 0, 0)
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == 24 * (1 + 24 * 3)
    assert len(set(rows)) > 3  # more than one colour


def read_png(data: bytes) -> dict[bytes, bytes]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks = {}
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + body),)
        chunks[kind] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    return chunks


@pytest.mark.parametrize("bad", [{"size": 15}, {"size": 801}, {"depth": 7}, {"depth": 501}])
def test_picture_is_bounded(artifacts: Path, bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"is \d+ to \d+"):
        load("picture")(**bad)
    assert not artifacts.exists()


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "deep/er/book.sqlite3"
    monkeypatch.setenv("GUESTBOOK_FILE", str(file))
    return file


def test_guestbook_remembers(book: Path) -> None:
    load("guestbook")("sign", name=" Ada ", message="'); drop table entries; --")
    load("guestbook")("sign", name="Zoë")
    answer = load("guestbook")(limit=1)
    assert answer["total"] == 2
    assert [(entry["entry"], entry["name"]) for entry in answer["entries"]] == [(2, "Zoë")]
    assert load("guestbook")()["entries"][1]["message"] == "'); drop table entries; --"
    assert book.exists()


def test_guestbook_is_at_home_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUESTBOOK_FILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("guestbook")() == {"total": 0, "entries": []}
    assert (tmp_path / ".local/share/remoterun/guestbook.sqlite3").exists()


@pytest.mark.parametrize(
    "bad",
    [{"action": "sign"}, {"action": "sign", "name": "x" * 81}, {"action": "sign", "name": "x", "message": "y" * 1001}],
)
def test_guestbook_refuses_what_does_not_fit(book: Path, bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="characters"):
        load("guestbook")(**bad)
    with pytest.raises(ValueError, match="limit"):
        load("guestbook")(limit=0)
    assert not book.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", {"lines": 0, "words": 0, "bytes": 0, "distinct": 0, "top": []}),
        (b"one", {"lines": 0, "words": 1, "bytes": 3, "distinct": 1, "top": [{"word": "one", "count": 1}]}),
        (
            "It's Zoë’s: zoë’s, ZOË’S!\n\n".encode(),
            {"lines": 2, "words": 4, "bytes": 36, "distinct": 2, "top": [{"word": "zoë’s", "count": 3}]},
        ),
        (
            b"\xff\xfe a a\n",
            {"lines": 1, "words": 2, "bytes": 7, "distinct": 1, "top": [{"word": "a", "count": 2}]},
        ),
    ],
)
def test_word_count_counts(monkeypatch: pytest.MonkeyPatch, text: bytes, expected: dict[str, object]) -> None:
    give_stdin(monkeypatch, text)
    assert load("word_count")(top=1) == expected


def test_word_count_is_bounded() -> None:
    with pytest.raises(ValueError, match="0 to 1000"):
        load("word_count")(top=-1)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"a": [{"b": 1}, {"b": None}], "": 3}),
        ("a.0.b", 1),
        ("a.-1", {"b": None}),
        ("a.*.b", [1, None]),
        ("*", [[{"b": 1}, {"b": None}], 3]),
    ],
)
def test_json_query_finds(monkeypatch: pytest.MonkeyPatch, query: str, found: object) -> None:
    give_stdin(monkeypatch, b'{"a": [{"b": 1}, {"b": null}], "": 3}')
    assert load("json_query")(query) == found


@pytest.mark.parametrize(
    ("document", "query", "message"),
    [
        (b"", "", "holds no JSON"),
        (b"[NaN]", "", "holds no JSON"),
        (b"\xff\xfe\xff", "", "holds no JSON"),
        (b"[" * 100_000, "", "holds no JSON"),
        (b'{"a": 1}', "b", "object with a: it has no 'b'"),
        (b'{"a": [1]}', "a.5", "a is a list of 1: it has no '5'"),
        (b'{"a": [1]}', "a.x", "a is a list of 1: it has no 'x'"),
        (b'{"a": "x"}', "a.0", "a is a text"),
        (b'{"a": null}', "a.*", "a is null: it has no members"),
    ],
)
def test_json_query_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, document: bytes, query: str, message: str
) -> None:
    give_stdin(monkeypatch, document)
    with pytest.raises(ValueError, match=message):
        load("json_query")(query)


def test_checksum_of_a_file(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    answer = load("checksum")(tmp_path / "file")
    assert answer["checksum"] == hashlib.sha256(b"abc").hexdigest()
    assert (answer["files"], answer["bytes"]) == (1, 3)


def test_checksum_of_a_folder_is_what_sha256sum_checks(artifacts: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "b").mkdir(parents=True)
    (tree / "b/two").write_bytes(b"2")
    (tree / "a").write_bytes(b"1")
    (tree / "link").symlink_to("a")
    first = load("checksum")(tree)
    subprocess.run(["sha256sum", "--check", "--strict", artifacts / "CHECKSUMS"], cwd=tree, check=True)
    assert first["files"] == 2
    (tree / "b/two").write_bytes(b"3")
    assert load("checksum")(tree)["checksum"] != first["checksum"]


def test_checksum_wants_something_there(artifacts: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file or folder"):
        load("checksum")(tmp_path / "missing")


def test_system_info_is_json() -> None:
    answer = json.loads(json.dumps(load("system_info")()))
    assert answer["memory"]["total"] >= answer["memory"]["available"] > 0
    assert answer["processors"]["usable"] >= 1
