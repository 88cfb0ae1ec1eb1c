from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.cli.progress import ProgressLine
from remoterun.cli.terminal import Neutraliser, safe_line, safe_text
from remoterun.messages import ProgressEvent, now

SGR = re.compile(r"\x1b\[[0-9;:]*m")
OBEYED = re.compile("[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

HOSTILE = {
    "title": (b"\x1b]0;pwned\x07after", "␛]0;pwned␇after"),
    "clipboard": (b"\x1b]52;c;cm0gLXJm\x1b\\", "␛]52;c;cm0gLXJm␛\\"),
    "hyperlink": (b"\x1b]8;;http://evil\x1b\\text\x1b]8;;\x1b\\", "␛]8;;http://evil␛\\text␛]8;;␛\\"),
    "clear screen": (b"a\x1b[2J\x1b[Hb", "ab"),
    "cursor report": (b"\x1b[6n", ""),
    "alternate screen": (b"\x1b[?1049h", ""),
    "device attributes": (b"\x1b[>c\x1bZ", "␛Z"),
    "full reset": (b"\x1bc", "␛c"),
    "DCS": (b"\x1bP$q\x1b\\", "␛P$q␛\\"),
    "APC": (b"\x1b_Gf=100;AAAA\x1b\\", "␛_Gf=100;AAAA␛\\"),
    "charset": (b"\x1b(0", "␛(0"),
    "C1 CSI in UTF-8": (b"\xc2\x9b2J", "<U+009B>2J"),
    "C1 OSC in UTF-8": (b"\xc2\x9d0;t\xc2\x9c", "<U+009D>0;t<U+009C>"),
    "C1 CSI in one byte": (b"\x9b2J", "\ufffd2J"),
    "bell": (b"\x07\x07", "␇␇"),
    "answerback": (b"\x05", "␅"),
    "delete": (b"\x7f", "␡"),
    "bidi override": ("a\u202eb\u2066c".encode(), "a<U+202E>b<U+2066>c"),
    "tag characters": ("\U000e0041".encode(), "<U+E0041>"),
    "escape within SGR": (b"\x1b[31\x1b[2Jm", "␛[31m"),
    "SGR with an intermediate": (b"\x1b[1 m", ""),
    "CSI without an end": (b"\x1b[" + b"1" * 100 + b"J", "␛[" + "1" * 100 + "J"),
    "lone escape at the end": (b"a\x1b", "a␛"),
    "unfinished CSI at the end": (b"a\x1b[3", "a␛[3"),
}


@pytest.mark.parametrize(("data", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_terminal_would_obey_becomes_text(data: bytes, shown: str) -> None:
    neutraliser = Neutraliser()
    assert neutraliser.feed(data) + neutraliser.finish() == shown


@pytest.mark.parametrize(
    "text", ["plain\n", "tab\tand\rreturn\b", "\x1b[31mred\x1b[0m", "\x1b[38;5;208;1mx\x1b[m", "é ü 漢字 👩‍🔬", "עברית"]
)
def test_text_and_colours_stay(text: str) -> None:
    neutraliser = Neutraliser()
    assert neutraliser.feed(text.encode()) + neutraliser.finish() == text


def test_colours_go_where_none_are_wanted() -> None:
    neutraliser = Neutraliser(colours=False)
    assert neutraliser.feed(b"\x1b[31mred\x1b[0m\x1b]0;t\x07") + neutraliser.finish() == "red␛]0;t␇"


def test_a_colour_left_on_is_reset_at_the_end() -> None:
    neutraliser = Neutraliser()
    assert neutraliser.feed(b"\x1b[31mred") == "\x1b[31mred"
    assert neutraliser.finish() == "\x1b[0m"


PIECES = st.lists(st.sampled_from([data for data, _ in HOSTILE.values()]) | st.binary(max_size=12), max_size=6)


@given(PIECES.map(b"".join), st.data())
def test_any_split_of_a_stream_shows_the_same(stream: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    whole, split = Neutraliser(), Neutraliser()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    shown = "".join(map(split.feed, pieces)) + split.finish()
    assert shown == whole.feed(stream) + whole.finish()
    assert OBEYED.search(SGR.sub("", shown)) is None


@given(st.text())
def test_no_text_of_someone_else_is_obeyed(text: str) -> None:
    line = safe_line(text)
    assert OBEYED.search(line) is None
    assert not set(line) & set("\b\n\r")
    assert OBEYED.search(safe_text(text)) is None


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ProgressEvent(job="j", n=1, time=now(), done=1, total=4, message="a\x1b[2J\nb"),
         "━" * 6 + "╌" * 18 + " 1/4 a␛[2J b"),
        (ProgressEvent(job="j", n=1, time=now(), done=9, total=4), "━" * 24 + " 9/4"),
        (ProgressEvent(job="j", n=1, time=now(), done=0.5, total=0), "╌" * 24 + " 0.5/0"),
        (ProgressEvent(job="j", n=1, time=now(), done=17, message="rows"), "17 rows"),
    ],
)  # fmt: skip
def test_progress_is_one_harmless_line(event: ProgressEvent, line: str) -> None:
    assert SGR.sub("", ProgressLine(80).show(event)) == line
    assert len(SGR.sub("", ProgressLine(10).show(event))) <= 9


def test_progress_tells_the_rate_and_the_remaining_time() -> None:
    began, line = now(), ProgressLine(80)

    def after(seconds: float, done: float, total: float | None = 40) -> str:
        time = began + timedelta(seconds=seconds)
        return SGR.sub("", line.show(ProgressEvent(job="j", n=1, time=time, done=done, total=total))).strip("━╌ ")

    assert after(0, 0) == "0/40"
    assert after(0, 1) == "1/40"
    assert after(2, 10) == "10/40 5/s 0:00:06 left"
    assert after(4, 11, None) == "11 2.75/s"
    assert after(100, 20) == "20/40 0.0938/s 0:03:33 left"  # what was longer ago counts for less
    assert after(101, 40) == "40/40 0.299/s"
    assert after(102, 1) == "1/40"  # another attempt
    assert after(103, 1.5) == "1.5/40 0.5/s 0:01:17 left"


def test_no_message_is_taken_for_markup() -> None:
    event = ProgressEvent(job="j", n=1, time=now(), done=1, message="[red]a[/red] [link=http://x]y[/link] :smile:")
    assert SGR.sub("", ProgressLine(80).show(event)) == "1 [red]a[/red] [link=http://x]y[/link] :smile:"
