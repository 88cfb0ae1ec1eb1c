"""Inline metadata of single-file scripts, PEP 723: find the block, parse its TOML, say where it is wrong."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from remoterun.catalog.defect import Defect

# The reference expression of the specification, section "Reference Implementation".
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_OPENING = re.compile(r"(?m)^# /// script$")
_TOML_LINE = re.compile(r"\(at line (\d+), column \d+\)")


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the block says, and where it stands in the file."""

    table: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()  # of TOML
    first_line: int = 0  # number in the file of the first of them

    @property
    def settings(self) -> Any:
        """What stands under `[tool.remoterun]`; a table unless the author wrote something else."""
        tool = self.table.get("tool", {})
        return tool.get("remoterun", {}) if isinstance(tool, dict) else {}

    def line_of(self, key: str) -> int | None:
        """Give the number in the file of the line that sets a key, or that opens its table."""
        name = re.escape(key)
        pattern = re.compile(rf"""\s*(?:\[.*\b{name}\s*\]|(?:[\w.\s]*\.)?["']?{name}["']?\s*[=.])""")
        for number, line in enumerate(self.lines, self.first_line):
            if pattern.match(line):
                return number
        return None


def parse(text: str) -> Metadata:
    """Parse the block `script` of a file's text; a file without one has empty metadata.

    Raises:
        Defect: there are two blocks, or the block is no TOML.
    """
    text = text.replace("\r\n", "\n")
    blocks = [match for match in _BLOCK.finditer(text) if match["type"] == "script"]
    if not blocks:
        return Metadata()
    if len(blocks) > 1:
        raise Defect(
            "there are two metadata blocks `# /// script`; keep one",
            line=_line_number(text, blocks[1].start()),
        )
    lines = tuple(line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines())
    first_line = _line_number(text, blocks[0].start("content"))
    return Metadata(_parse_toml(lines, first_line), lines, first_line)


def unclosed(text: str) -> int | None:
    """Give the line of an opening `# /// script` that no `# ///` closes: the specification ignores such a block."""
    text = text.replace("\r\n", "\n")
    opened = {match.start() for match in _OPENING.finditer(text)}
    opened -= {match.start() for match in _BLOCK.finditer(text)}
    return _line_number(text, min(opened)) if opened else None


def _parse_toml(lines: tuple[str, ...], first_line: int) -> dict[str, Any]:
    try:
        return tomllib.loads("\n".join(lines) + "\n")
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.search(str(error))
        line = first_line + (int(found[1]) if found else len(lines)) - 1  # else: "at end of document"
        what = str(error).partition(" (at ")[0]
        raise Defect(f"the metadata block is no TOML: {what[:1].lower()}{what[1:]}", line=line) from error
    except RecursionError as error:
        raise Defect("the metadata block is nested too deeply", line=first_line) from error


def _line_number(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1
