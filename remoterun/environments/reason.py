"""What uv wrote, as one line that tells an author why there is no environment; pure."""

from __future__ import annotations

import re

LONGEST = 2000  # characters
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
_HEADS = re.compile(r"^\s*(?:error:|cause:|Caused by:|[×╰─▶├]+)\s*")
_PASSING = re.compile(
    r"(?i)^warning:|^Using |^Resolved |^Downloading |^ *Downloaded |^Prepared |^\s*Building |^ *Built "
)
_STALE = re.compile(r"lockfile at .* needs to be updated", re.IGNORECASE)
_BAD_LOCK = re.compile(r"Failed to parse `.*\.lock`|(?:un)?supported.*lockfile|lockfile.*version", re.IGNORECASE)


def explain(said: str, script: str, exit_code: int) -> str:
    """Give uv's own reason.

    Parameters:
        said: what it wrote to stderr.
        script: the file's name.
        exit_code: uv's.
    """
    text = _CREDENTIALS.sub("://…@", _COLOURS.sub("", said))
    if _STALE.search(text):
        return (
            f"{script}.lock is out of date: it does not fit the script's dependencies; type: uv lock --script {script}"
        )
    reason = _joined(_without_warnings(text.splitlines()))
    if _BAD_LOCK.search(text):
        reason = f"{script}.lock cannot be read; type: uv lock --script {script} ({reason})"
    return reason[:LONGEST] or f"uv ended with exit code {exit_code} and said nothing"


def _without_warnings(lines: list[str]) -> list[str]:
    """Begin with the line of the error, where there is one."""
    for number, line in enumerate(lines):
        if re.match(r"\s*(error:|×)", line):
            return lines[number:]
    return [line for line in lines if not _PASSING.match(line)]


def _joined(lines: list[str]) -> str:
    """Join lines to one: a cause follows a colon, other lines go on."""
    text = ""
    for line in lines:
        part = _HEADS.sub("", line).strip()
        if part and text:
            is_cause = _HEADS.match(line) is not None and not text.endswith(":")
            text = f"{text.rstrip('.') if is_cause else text}{':' if is_cause else ''} {part}"
        else:
            text = text or part
    return text
