"""A Dockerfile as its instructions, as far as tests ask for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its word, what follows it, and the number of the stage that it stands in."""

    word: str
    text: str
    stage: int

    def arguments(self) -> list[str]:
        """Give the words after its options."""
        return [word for word in self.text.split() if not word.startswith("--")]

    def listed(self) -> list[str]:
        """Give the list of texts that CMD has, after its options."""
        words: list[str] = json.loads(self.text[self.text.index("[") :])
        return words


def parse(text: str) -> list[Instruction]:
    """Parse a Dockerfile without heredocs; what stands before the first FROM is in stage -1."""
    found, stage = [], -1
    for line in _lines(text):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage += 1
        found.append(Instruction(word, rest.strip(), stage))
    return found


def _lines(text: str) -> Iterator[str]:
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n", " ", kept).splitlines():
        if line.strip():
            yield " ".join(line.split())
