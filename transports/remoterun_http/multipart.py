"""Forms that may send files (multipart/form-data, RFC 7578): texts are held, files go to the disk as they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from remoterun.errors import Invalid, TooLarge
from remoterun.incoming import Reception, Writer
from remoterun.messages import FileOnDisk, JobRequest
from remoterun_http.answers import REQUEST_JSON, Receive
from remoterun_http.headers import media_type
from remoterun_http.requests import Call, Disconnected

MULTIPART: Final = b"multipart/form-data"

_GATHERED = 256 * 1024  # bytes of files that one visit to the disk writes
_PART = 100  # bytes that a part costs beside its header and its text


class Form:
    """What a form held: texts and files in their order, and the job request that one part may be."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.files: list[tuple[str, FileOnDisk]] = []
        self.request: bytes | None = None


async def read_form(call: Call, receive: Receive, max_request: int, reception: Reception | None) -> Form:
    """Read a form; to be called only once the caller has proved who it is.

    Parameters:
        max_request: bytes that all but the files may have.
        reception: takes the files; None: there must be none.

    Raises:
        Invalid: it is no form, or ends too early.
        TooLarge: it holds more than it may.
        Unavailable: the disk takes no more.
        Disconnected: the caller went away.
    """
    reader = _Reader(call.headers.get(b"content-type", b""), max_request, reception)
    call.expect_files()
    left = max_request + (0 if reception is None else reception.largest)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        data: bytes = message.get("body", b"")
        left -= len(data)
        if left < 0:
            raise TooLarge("the form is larger than limits.request and limits.upload of this node together")
        await reader.feed(data)
        if not message.get("more_body"):
            return await reader.end()


class _Part:
    """A part of a form, while it arrives."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.name = ""
        self.text: bytearray | None = None  # None: it is a file
        self.writer: Writer | None = None
        self.file_name = ""
        self.size = 0


class _Reader:
    """Cuts a body into parts. The parser's callbacks only note what is to be done on the disk."""

    def __init__(self, content_type: bytes, max_request: int, reception: Reception | None) -> None:
        self._form = Form()
        self._max_request = self._left = max_request
        self._reception = reception
        self._part = _Part()
        self._field = b""
        self._value = b""
        self._jobs: list[Callable[[], None]] = []
        self._gathered = 0
        self._has_ended = False
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise Invalid("the body is no multipart form: its Content-Type names no boundary")
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._add_content,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise Invalid(f"the body is no multipart form: {error}") from error

    async def feed(self, data: bytes) -> None:
        """Take a piece of the body."""
        if data and not self._has_ended:  # what follows the last boundary is nothing
            try:
                self._parser.write(data)
            except FormParserError as error:
                raise Invalid(f"the body is no multipart form: {error}") from error
        if self._gathered >= _GATHERED:
            await self._visit_disk()

    async def end(self) -> Form:
        """Give the form."""
        if not self._has_ended:
            raise Invalid("the body is no multipart form: it ends before its last boundary")
        await self._visit_disk()
        return self._form

    async def _visit_disk(self) -> None:
        jobs, self._jobs, self._gathered = self._jobs, [], 0
        if jobs:
            await asyncio.to_thread(_do, jobs)

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise TooLarge(f"the form without its files is larger than the {self._max_request} bytes that are taken")

    def _begin(self) -> None:
        self._part = _Part()
        self._spend(_PART)

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._spend(end - start)
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._spend(end - start)
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._part.headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _begin_content(self) -> None:
        part = self._part
        kind, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        if kind != b"form-data" or not options.get(b"name"):
            raise Invalid("the body is no multipart form: a part has no name")
        part.name = _unescaped(_text(options[b"name"], "a part's name"))
        if b"filename" not in options:
            part.text = bytearray()
            return
        part.file_name = _unescaped(options[b"filename"].decode(errors="replace"))

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.text is not None:
            self._spend(end - start)
            part.text += data[start:end]
            return
        part.size += end - start
        self._gathered += end - start
        writer, piece = self._writer(part), data[start:end]
        self._jobs.append(lambda: writer.write(piece))

    def _end_part(self) -> None:
        part = self._part
        if part.text is None:
            if part.file_name or part.size:  # a browser sends a nameless nothing where no file was chosen
                writer, name = self._writer(part), part.name
                self._jobs.append(lambda: self._form.files.append((name, writer.finish())))
        elif media_type(part.headers) == REQUEST_JSON:
            if self._form.request is not None:
                raise Invalid("the form has two job requests; send one")
            self._form.request = bytes(part.text)
        else:
            self._form.texts.append((part.name, _text(part.text, part.name)))

    def _writer(self, part: _Part) -> Writer:
        if part.writer is None:
            if self._reception is None:
                raise Invalid("files are not taken here; send the text in a field without a file name")
            part.writer = self._reception.open(part.file_name)
        return part.writer

    def _end(self) -> None:
        self._has_ended = True


def files_of(form: Form) -> dict[str, FileOnDisk]:
    """Give a form's files by the paths of their parameters: those of one name are the items of a list."""
    counts: dict[str, int] = {}
    for name, _ in form.files:
        counts[name] = counts.get(name, 0) + 1
    seen: dict[str, int] = {}
    files: dict[str, FileOnDisk] = {}
    for name, file in form.files:
        index = seen[name] = seen.get(name, -1) + 1
        path = name if counts[name] == 1 else f"{name}.{index}"
        if path in files:
            raise Invalid(f"{path} is given two files")
        files[path] = file
    return files


def request_of(form: Form, request: JobRequest) -> JobRequest:
    """Give a job request with the files of its form.

    Raises:
        Invalid: the form holds something else, too.
    """
    if form.texts:
        raise Invalid(f"{form.texts[0][0]}: a form with a job request holds nothing else but files")
    if not form.files:
        return request
    return msgspec.structs.replace(request, files={**(request.files or {}), **files_of(form)})


def _do(jobs: list[Callable[[], None]]) -> None:
    for job in jobs:
        job()


def _unescaped(name: str) -> str:
    """Give a name as it was before a browser escaped these three characters in it (HTML, 4.10.21.8)."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _text(data: bytes | bytearray, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{what[:200]} is no UTF-8 text") from error
