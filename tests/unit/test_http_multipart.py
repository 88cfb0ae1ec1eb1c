"""Forms that send files: any split of the body gives the same, garbage raises only refusals, nothing is left behind."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.errors import Invalid, ServiceError, TooLarge
from remoterun.incoming import MOST_FILES, Incoming
from remoterun.messages import JobRequest
from remoterun_http.answers import Message
from remoterun_http.multipart import Form, files_of, read_form, request_of
from remoterun_http.parameters import fields_of, whole_request
from remoterun_http.requests import Call, Disconnected

HEADERS = {b"content-type": b"multipart/form-data; boundary=XX"}
END = b"--XX--\r\n"
REQUEST = 10_000
UPLOAD = 20_000


def part(name: str, value: bytes | str, more: str = "", kind: str = "") -> bytes:
    value = value.encode() if isinstance(value, str) else value
    head = f'--XX\r\nContent-Disposition: form-data; name="{name}"{more}\r\n'
    return head.encode() + (f"Content-Type: {kind}\r\n".encode() if kind else b"") + b"\r\n" + value + b"\r\n"


def file(name: str, value: bytes | str, called: str = "a.txt") -> bytes:
    return part(name, value, f'; filename="{called}"')


class Read:
    """A form, and what its files held while they were there."""

    def __init__(self, form: Form, folder: Path) -> None:
        self.form = form
        self.texts = form.texts
        self.files = [(name, each.name, Path(each.path).read_bytes(), each.size) for name, each in form.files]
        self.held = len(list(folder.iterdir()))


async def read(
    body: bytes, cuts: list[int] | None = None, headers: dict[bytes, bytes] = HEADERS, whole: bool = True
) -> Read:
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts or []), len(body)]
    pieces = [body[a:b] for a, b in pairwise(edges)]
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False} if whole else {"type": "http.disconnect"})
    call = Call({}, headers, None, None)  # type: ignore[arg-type]

    async def receive() -> Message:
        return messages.pop(0)

    with tempfile.TemporaryDirectory() as name:
        incoming = Incoming(Path(name) / "incoming", UPLOAD)
        incoming.prepare()
        try:
            with incoming.reception() as reception:
                return Read(await read_form(call, receive, REQUEST, reception), incoming.folder)
        finally:
            assert list(incoming.folder.iterdir()) == []


BODY = (
    part("a", "1")
    + file("picture", b"\x00\xff--XX\r\n--X" * 100, "über ✓.png")
    + part("a", "zwei ✓")
    + file("pages", b"", "empty")
    + file("pages", b"2" * 3000, "../../etc/passwd")
    + file("none", b"", "")
    + END
)


async def test_texts_and_files_are_parted() -> None:
    found = await read(BODY)
    assert found.texts == [("a", "1"), ("a", "zwei ✓")]
    data = b"\x00\xff--XX\r\n--X" * 100
    assert found.files == [
        ("picture", "über ✓.png", data, len(data)),
        ("pages", "empty", b"", 0),
        ("pages", "../../etc/passwd", b"2" * 3000, 3000),
    ]
    assert files_of(found.form).keys() == {"picture", "pages.0", "pages.1"}
    fields = fields_of(HEADERS, b"b=2", found.form)
    assert fields["params"] == {"a": ["1", "zwei ✓"], "b": "2"}
    assert fields["files"].keys() == {"picture", "pages.0", "pages.1"}


@given(st.lists(st.integers(0, len(BODY)), max_size=30))
async def test_any_split_gives_the_same(cuts: list[int]) -> None:
    whole, split = await read(BODY), await read(BODY, cuts)
    assert (split.texts, split.files) == (whole.texts, whole.files)


async def test_byte_by_byte_gives_the_same() -> None:
    whole, split = await read(BODY), await read(BODY, [*range(len(BODY))])
    assert (split.texts, split.files) == (whole.texts, whole.files)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form",
        BODY[:-10],
        BODY[: len(BODY) // 2],
        part("", "x") + END,
        b"--XX\r\nContent-Disposition: attachment\r\n\r\nx\r\n" + END,
        b"--XX\r\n\r\nx\r\n" + END,
        part("a", b"\xff") + END,
        b"--XX\r\n" + b"A: b\r\n" * 100 + b"\r\nx\r\n" + END,
        b"--XX\r\nA: " + b"b" * 8000 + b"\r\n\r\nx\r\n" + END,
    ],
    ids=["empty", "garbage", "cut", "half", "nameless", "no form data", "headless", "no text", "headers", "header"],
)
async def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        await read(body)


@pytest.mark.parametrize("kind", [b"multipart/form-data", b"multipart/form-data; boundary=", b""])
async def test_a_form_names_its_boundary(kind: bytes) -> None:
    with pytest.raises(Invalid):
        await read(BODY, headers={b"content-type": kind})


@pytest.mark.parametrize(
    "body",
    [
        file("a", b"x" * (UPLOAD + 1)) + END,
        file("a", b"x" * (UPLOAD // 2)) + file("b", b"x" * (UPLOAD // 2 + 1)) + END,
        file("a", b"x" * 10 * UPLOAD),
        file("a", b"x") * (MOST_FILES + 1) + END,
        part("a", "x" * (REQUEST + 1)) + END,
        part("a", "") * 200 + END,
        BODY + b"x" * (REQUEST + UPLOAD),
    ],
    ids=["file", "files", "endless", "many files", "text", "many texts", "epilogue"],
)
async def test_nothing_larger_than_its_limits_is_taken(body: bytes) -> None:
    with pytest.raises(TooLarge):
        await read(body, [*range(0, len(body), 4096)])


async def test_a_caller_who_goes_away_leaves_nothing() -> None:
    with pytest.raises(Disconnected):
        await read(BODY[:1000], whole=False)


KIND = "application/vnd.remoterun.job-request+json"


async def test_a_part_may_be_the_whole_request() -> None:
    request = part("request", '{"script":"s","params":{"n":1},"key":"k"}', kind=KIND)
    found = await read(request + file("picture", "x") + END)
    whole = whole_request(HEADERS, "s", found.form)
    assert whole is not None
    assert (whole.script, whole.params, whole.key) == ("s", {"n": 1}, "k")
    assert (whole.files or {}).keys() == {"picture"}
    with pytest.raises(Invalid):
        whole_request(HEADERS, "other", found.form)


async def test_a_form_has_one_request_and_no_texts_beside_it() -> None:
    request = part("request", '{"script":"s"}', kind=KIND)
    with pytest.raises(Invalid):
        await read(request * 2 + END)
    with pytest.raises(Invalid):
        request_of((await read(request + part("a", "1") + END)).form, JobRequest(script="s"))


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
async def test_garbage_raises_only_refusals(body: bytes, cuts: list[int]) -> None:
    try:
        await read(b"--XX\r\nContent-Disposition: form-data; name=a" + body, cuts)
    except ServiceError:
        return


@given(st.binary(max_size=100), st.text(max_size=30))
async def test_any_bytes_arrive_as_they_are(data: bytes, name: str) -> None:
    quoted = name.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
    found: Any = await read(file("a", data, "f" + quoted) + END)
    if b"\r\n--XX" not in b"\r\n" + data:
        assert [each[2] for each in found.files] == [data]
