"""What is logged is one line a record in the chosen format, whatever texts it is made of."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remoterun import logs
from remoterun.joblines import trace_id
from remoterun.logs import JsonFormatter, Log, TextFormatter, escaped, say, with_fields

FORGED = "x\n2026-01-01T00:00:00.000Z INFO remoterun: forged"
HOSTILE = (
    "\x1b[2J\x1b]0;title\x07",
    "\r\n",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "\udc80\ud800",
    "\u202egnp",
    "\x00",
    FORGED,
)

TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ ")
FORMATTERS = [JsonFormatter("n"), TextFormatter()]

anything = st.one_of(
    st.text(), st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp"])), st.sampled_from(HOSTILE)
)


def record(message: Any, *args: Any, name: str = "remoterun", **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, "file", 1, message, args, None)
    vars(made).update(with_fields(fields))
    return made


def raised(error: Exception) -> logging.LogRecord:
    made = record("it failed")
    try:
        raise error
    except Exception:
        made.exc_info = sys.exc_info()
    return made


@given(anything, anything, anything)
@example(*HOSTILE[:3])
def test_json_is_one_line_of_ascii_whatever_it_holds(message: str, name: str, script: str) -> None:
    line = JsonFormatter("node").format(record("%s", message, name=name, script=script))
    assert line.isascii()
    assert line.isprintable()
    entry = json.loads(line)
    entry["message"].encode()  # no lone surrogates: strict readers would refuse the line
    if all(char.isprintable() for char in message):
        assert entry["message"] == message
    assert set(entry) == {"time", "level", "logger", "message", "node", "script"}


@given(anything, anything, anything)
@example(*HOSTILE[:3])
def test_text_is_one_line_without_controls_whatever_it_holds(message: str, name: str, script: str) -> None:
    line = TextFormatter().format(record("%s", message, name=name, script=script))
    assert TEXT_LINE.match(line)
    assert line.splitlines() == [line]
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", line)


def test_json_says_when_who_and_of_which_job() -> None:
    entry = json.loads(JsonFormatter("node-1").format(record("job %s", "failed", job="j", trace=None, attempt=2)))
    assert datetime.fromisoformat(entry.pop("time")).utcoffset() is not None
    assert entry == {"level": "warning", "logger": "remoterun", "message": "job failed", "node": "node-1", "job": "j",
                     "attempt": 2}  # fmt: skip


def test_text_has_the_fields_at_its_end_quoted_where_they_need_it() -> None:
    line = TextFormatter().format(record("ended", job="01-a", peer="uid 0", script='a" b="c'))
    assert line.endswith(r'WARNING remoterun: ended job=01-a peer="uid 0" script="a\" b=\"c"')


def test_an_exception_is_one_field_of_json() -> None:
    entry = json.loads(JsonFormatter("n").format(raised(ValueError(FORGED))))
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith(f"ValueError: {FORGED}")


def test_an_exception_in_text_cannot_begin_a_line_as_a_record_does() -> None:
    first, *others = TextFormatter().format(raised(ValueError(FORGED + "\x1b[2J"))).splitlines()
    assert TEXT_LINE.match(first)
    assert len(others) > 3
    assert all(line.startswith("    ") for line in others)
    assert not any("\x1b" in line for line in others)


@pytest.mark.parametrize("formatter", FORMATTERS, ids=["json", "text"])
def test_arguments_that_do_not_fit_are_shown_beside_the_text(formatter: logging.Formatter) -> None:
    assert "%d calls ('many',)" in formatter.format(record("%d calls", "many"))


@pytest.mark.parametrize("formatter", FORMATTERS, ids=["json", "text"])
def test_long_texts_are_cut_so_that_no_collector_cuts_the_line(formatter: logging.Formatter) -> None:
    long = raised(ValueError("y" * 100_000 + "END"))
    long.msg = "x" * 100_000
    line = formatter.format(long)
    assert len(line) < 30_000
    assert "END" in line


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


@pytest.fixture
def as_set_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[Log], None]:
    return lambda log: monkeypatch.setattr(logs, "_present", log)


def test_what_is_said_to_people_is_a_record_where_the_log_is_json(as_set_up: Callable[[Log], None]) -> None:
    plain, collected = io.StringIO(), io.StringIO()
    as_set_up(Log())
    say("two\nlines", plain)
    as_set_up(Log(format="json", node="n"))
    say("two\nlines", collected, logging.ERROR)
    assert plain.getvalue() == "two\nlines\n"
    entry = json.loads(collected.getvalue())
    assert (entry["message"], entry["level"], entry["node"]) == ("two\nlines", "error", "n")


def test_the_trace_id_is_the_traceparents() -> None:
    assert trace_id("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") == "0af7651916cd43dd8448eb211c80319c"
    assert trace_id(None) is None


def test_warnings_and_uncaught_exceptions_are_records_too() -> None:
    program = (
        "import threading, warnings, stat\n"
        "from remoterun.logs import Log, set_up\n"
        "set_up(Log('info', 'json', 'n'))\n"
        "warnings.warn('old', DeprecationWarning, stacklevel=1)\n"
        "thread = threading.Thread(target=lambda: 1 / 0, name='its-name')\n"
        "thread.start(); thread.join()\n"
        "raise OSError('the end')\n"
    )
    done = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, timeout=60)
    warning, of_thread, last = (json.loads(line) for line in done.stderr.splitlines())
    assert (warning["logger"], "DeprecationWarning: old" in warning["message"]) == ("py.warnings", True)
    assert "its-name" in of_thread["message"]
    assert of_thread["exception"].endswith("ZeroDivisionError: division by zero")
    assert (last["level"], last["exception"].splitlines()[-1]) == ("critical", "OSError: the end")
    assert done.returncode == 1
