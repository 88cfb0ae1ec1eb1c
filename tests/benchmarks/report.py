"""The table: for a terminal, for the README, for a program."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from measure import Figure, Row, number, ratio_of

_HEAD = ("what", "measured", "beside it, in the same run", "target", "")


def machine() -> str:
    """Say when, and on what, this was measured."""
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    gigabytes = f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{today}: {os.cpu_count()} cores (the load generator's too), {gigabytes} of memory,"
        f" Python {platform.python_version()}, Linux {platform.release().split('-')[0]}"
    )


def text(rows: Sequence[Row]) -> str:
    """Give the table for a terminal."""
    table = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line) for cells in table for line in cells[column].split("; ")) for column in range(len(_HEAD))]
    lines = []
    for cells in table:
        parts = [cell.split("; ") for cell in cells]
        for index in range(max(map(len, parts))):
            shown = (part[index] if index < len(part) else "" for part in parts)
            lines.append("  ".join(f"{cell:{width}}" for cell, width in zip(shown, widths, strict=True)).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """Give the table for the README."""
    table = [_HEAD, ("---",) * len(_HEAD), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in table)


def values(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Give the rows as values of JSON."""
    return [
        {
            "what": row.what,
            "measured": _figure_values(row.figure),
            "floors": [_figure_values(floor) for floor in row.floors],
            "targets": [
                {"target": target.text(row.figure.unit), "met": target.is_met(row.figure)} for target in row.targets
            ],
        }
        for row in rows
    ]


def _figure_values(figure: Figure) -> dict[str, object]:
    return {
        "name": figure.name,
        "unit": figure.unit,
        "median": figure.median,
        "rounds": figure.values,
        "missing": figure.missing or None,
    }


def _cells(row: Row) -> tuple[str, ...]:
    figure = row.figure
    verdicts = {True: "met", False: "NOT MET", None: "not measured"}
    return (
        row.what,
        _shown(figure),
        "; ".join(f"{floor.name} {_shown(floor)}{_times(row.figure, floor)}" for floor in row.floors),
        "; ".join(target.text(figure.unit) for target in row.targets),
        "; ".join(verdicts[target.is_met(figure)] for target in row.targets),
    )


def _shown(figure: Figure) -> str:
    if figure.median is None:
        return f"– ({figure.missing or 'not measured'})"
    return f"{number(figure.median, figure.unit)} ±{figure.spread:.0%}"


def _times(figure: Figure, floor: Figure) -> str:
    ratio = ratio_of(figure, floor) if figure.unit == floor.unit else None
    return "" if ratio is None else f" (× {ratio:.2f})"
