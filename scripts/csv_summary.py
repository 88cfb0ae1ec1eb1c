"""Summarise a CSV table, column by column: type, smallest, largest, mean, how many differ, how many are empty.

    remoterun run csv_summary delimiter=';' < prices.csv

Args:
    path: the file; without it the table comes in on stdin.
    delimiter: what separates the columns; `tab` for a tab.
    encoding: how the text is encoded.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "10m"
# memory = "1GB"
# description = "Summarise a CSV table, column by column"
# ///

import csv
import io
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TextIO

from remoterun import script

DISTINCT = 10_000  # values remembered of one column


def main(path: Path | None = None, delimiter: str = ",", encoding: str = "utf-8-sig") -> dict[str, object]:
    delimiter = "\t" if delimiter == "tab" else delimiter
    if len(delimiter) != 1:
        raise ValueError(f"delimiter is one character or tab, not {delimiter!r}")
    try:
        with open_table(path, encoding) as table:
            return summarise(csv.reader(table, delimiter=delimiter, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"this is no CSV table: {error}") from error
    except LookupError as error:
        raise ValueError(f"there is no encoding {encoding!r}") from error


@contextmanager
def open_table(path: Path | None, encoding: str) -> Iterator[TextIO]:
    if path is not None:
        with path.open(encoding=encoding, newline="") as table:
            yield table
        return
    table = io.TextIOWrapper(sys.stdin.buffer, encoding=encoding, newline="")
    try:
        yield table
    finally:
        table.detach()


def summarise(rows: Iterator[list[str]]) -> dict[str, object]:
    header = next(rows, [])
    columns = [Column(name) for name in header]
    count = ragged = 0
    for count, row in enumerate(rows, 1):
        ragged += len(row) != len(columns)
        for column, cell in zip(columns, row, strict=False):
            column.add(cell.strip())
        for column in columns[len(row) :]:
            column.add("")
        if count % 1000 == 0:
            script.progress(count, message="reading rows")
    return {"rows": count, "ragged_rows": ragged, "columns": [column.summary() for column in columns]}


class Column:
    """What is known of one column so far; its type is the narrowest that fits every cell."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.filled = self.empty = 0
        self._types = list(TYPES)
        self._distinct: set[str] = set()
        self._ends: dict[str, tuple[object, object]] = {}  # type → smallest and largest
        self._sum = 0.0

    def add(self, cell: str) -> None:
        if not cell:
            self.empty += 1
            return
        self.filled += 1
        if len(self._distinct) <= DISTINCT:
            self._distinct.add(cell)
        for name in self._types.copy():
            self._try(name, cell)

    def _try(self, name: str, cell: str) -> None:
        try:
            value = TYPES[name](cell)
        except ValueError:
            self._types.remove(name)
            return
        low, high = self._ends.get(name, (value, value))
        self._ends[name] = (min(low, value), max(high, value))  # type: ignore[call-overload]
        if name == "number":
            self._sum += value  # type: ignore[operator]

    def summary(self) -> dict[str, object]:
        kind = self._types[0] if self.filled else "empty"
        low, high = self._ends.get(kind, (None, None))
        known = min(len(self._distinct), DISTINCT)
        answer: dict[str, object] = {"name": self.name, "type": kind, "filled": self.filled, "empty": self.empty}
        answer |= {"distinct": known, "distinct_at_least": len(self._distinct) > DISTINCT}
        answer |= {"min": plain(low), "max": plain(high)}
        if kind in ("integer", "number"):
            answer["mean"] = self._sum / self.filled
        return answer


def number(cell: str) -> float:
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError("JSON has no such number")
    return value


def integer(cell: str) -> int:
    if len(cell) > 18:  # beyond 64 bits, and no count of anything
        raise ValueError("too long")
    return int(cell)


TYPES: dict[str, Callable[[str], object]] = {
    "integer": integer,
    "number": number,
    "date": date.fromisoformat,
    "text": str,
}


def plain(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    return value[:100] if isinstance(value, str) else value
