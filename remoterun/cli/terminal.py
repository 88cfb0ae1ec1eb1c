"""What a job wrote, shown harmlessly: on a terminal only text and colours, elsewhere the bytes as they were.

A terminal obeys what it is sent: escape sequences move the cursor over earlier lines, set the title, write
the clipboard, answer as if typed; bidirectional overrides show code as other code. A script's output is
anyone's text, so of all that only SGR (colours, bold) is let through.
"""

from __future__ import annotations

import codecs
import re

from remoterun.cli.outs import write_all

_SGR = re.compile(r"\x1b\[[0-9;:]*m")
_CSI = re.compile(r"\x1b\[[0-?]{0,32}[ -/]{0,4}[@-~]")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,4})?\Z")
_DANGEROUS = re.compile(
    "[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f"  # C0 but \b \t \n \r and ESC
    "\x80-\x9f"  # C1: CSI, OSC, DCS in one character each
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks, overrides and isolates
    "\u2028\u2029\U000e0000-\U000e007f]"  # line separators, tags
)
_RESET = "\x1b[0m"


class TerminalOut:
    """Write text and colours to a terminal, and nothing else that it would obey."""

    def __init__(self, descriptor: int, *, colours: bool) -> None:
        self._descriptor = descriptor
        self._neutraliser = Neutraliser(colours=colours)

    def write(self, data: bytes) -> None:
        write_all(self._descriptor, self._neutraliser.feed(data).encode())

    def close(self) -> None:
        write_all(self._descriptor, self._neutraliser.finish().encode())


class Neutraliser:
    """Turn a stream of hostile bytes into text that is safe on a terminal.

    Colours stay, other control sequences are dropped, and what is left of control characters is shown as
    visible ones. A sequence may be split over chunks.

    Parameters:
        colours: whether SGR sequences stay.
    """

    def __init__(self, *, colours: bool = True) -> None:
        self._colours = colours
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._coloured = False

    def feed(self, data: bytes) -> str:
        """Give the text that is safe to show so far."""
        text = self._held + self._decoder.decode(data)
        unfinished = _UNFINISHED.search(text)
        cut = len(text) if unfinished is None else unfinished.start()
        self._held = text[cut:]
        return self._clean(text[:cut])

    def finish(self) -> str:
        """Give what was held back, and reset the colours that the stream left on."""
        text = self._clean(self._held + self._decoder.decode(b"", final=True))
        self._held = ""
        return text + _RESET if self._coloured else text

    def _clean(self, text: str) -> str:
        if text.isascii() and text.isprintable():
            return text
        pieces = text.split("\x1b")
        return visible(pieces[0]) + "".join(self._clean_sequence("\x1b" + piece) for piece in pieces[1:])

    def _clean_sequence(self, text: str) -> str:
        match = _SGR.match(text)
        if match and self._colours:
            self._coloured = match[0] not in (_RESET, "\x1b[m")
            return match[0] + visible(text[match.end() :])
        match = match or _CSI.match(text)
        if match:
            return visible(text[match.end() :])
        return "␛" + visible(text[1:])


def visible(text: str) -> str:
    """Show control characters as visible ones: `␇`, `<U+202E>`."""
    return _DANGEROUS.sub(_picture, text)


def safe_line(text: str) -> str:
    """Give a text of someone else's as one harmless line."""
    return visible(" ".join(text.split())).replace("\x1b", "␛").replace("\b", "␈")


def safe_text(text: str) -> str:
    """Give a text of someone else's as harmless lines, without colours."""
    neutraliser = Neutraliser(colours=False)
    return neutraliser.feed(text.encode(errors="replace")) + neutraliser.finish()


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"<U+{code:04X}>"
