"""The log on stderr: a line for each record, as text or as JSON, that no text of others can break.

A message may hold what a caller or a broker sent. So that nobody can write a line that looks like ours, or act on the
terminal of who reads it, control characters are escaped in both formats; in the text format the lines of an
exception are indented, which a record's first line never is.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, TextIO

from msgspec import Struct

LogFormat = Literal["text", "json"]

_FIELDS: Final = "remoterun_fields"  # the attribute of a record that holds its fields
_LONGEST_MESSAGE = 8192  # characters; journald and Docker cut longer lines in two, which would be two broken records
_LONGEST_EXCEPTION = 16384  # characters, of its end: that is where the error stands
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: line feeds, and what terminals obey
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line separators, bidirectional marks and overrides
    "\ud800-\udfff\U000e0000-\U000e007f]"  # what UTF-8 cannot hold, and tags
)
_BARE = re.compile(r"[A-Za-z0-9._/:@+-]+")  # a value that needs no quotes


class Log(Struct, frozen=True):
    """How a process logs: this level and worse, in this format, as this node."""

    level: str = "info"
    format: LogFormat = "text"
    node: str = ""


_present = Log()


def present() -> Log:
    """Give how this process logs, for processes that it starts."""
    return _present


def set_up(log: Log) -> None:
    """Have everything that this process logs, warnings and uncaught exceptions too, go to stderr in one format."""
    global _present
    _present = log
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log))
    logging.basicConfig(level=log.level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def say(text: str, stream: TextIO, level: int = logging.INFO) -> None:
    """Tell whoever started this process, whatever the level of the log: in lines, or as a record where it is JSON."""
    if _present.format == "json":
        said = {"name": "remoterun", "levelno": level, "levelname": logging.getLevelName(level), "msg": text}
        text = _formatter(_present).format(logging.makeLogRecord(said))
    print(text, file=stream, flush=True)


def with_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give the `extra` of a logging call whose record has these fields; those that are None are left out."""
    return {_FIELDS: {name: value for name, value in fields.items() if value is not None}}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line, all ASCII.

    Parameters:
        node: the node's name, for every record.
    """

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "node": self._node,
            **_fields(record),
        }
        if exception := _exception(self, record):
            entry["exception"] = exception
        return json.dumps({name: _encodable(value) for name, value in entry.items()}, default=str)


class TextFormatter(logging.Formatter):
    """A record as a line for people, its fields as name=value at the end."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {escaped(record.name)}: {escaped(_message(record))}"
        line += "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        exception = _exception(self, record)
        return "\n    ".join((line, *map(escaped, exception.split("\n")))) if exception else line


def escaped(text: str) -> str:
    """Give a text on one line, with escapes for what ends one or acts on a terminal."""
    return text if text.isprintable() and text.isascii() else _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _formatter(log: Log) -> logging.Formatter:
    return JsonFormatter(log.node) if log.format == "json" else TextFormatter()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:  # of a library whose arguments do not fit its text: rather that than no record
        text = f"{record.msg} {record.args}"
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, _FIELDS, {})
    return fields


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    if record.stack_info:
        text = f"{text}\n{record.stack_info}".lstrip("\n")
    return text if len(text) <= _LONGEST_EXCEPTION else f"…{text[-_LONGEST_EXCEPTION:]}"


def _encodable(value: Any) -> Any:
    """Give a text without lone surrogates: JSON's grammar allows their escapes, most who read it do not."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("remoterun").critical("a defect ends this process", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread is not None else "?"
        logging.getLogger("remoterun").error(
            "a defect ends the thread %s", name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
        )
