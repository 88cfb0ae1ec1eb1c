"""Tables and lists of facts: rich on a terminal, aligned plain text elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import datetime

from remoterun.cli.outs import is_terminal
from remoterun.cli.terminal import safe_line


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the last column is as wide as it is."""
    clean = [[safe_line(cell) for cell in row] for row in rows]
    if is_terminal(1):
        _print_rich(header, clean)
    else:
        print_columns([list(header), *clean])


def print_facts(facts: Iterable[tuple[str, str | None]]) -> None:
    """Print names and values in two columns, without those that are None."""
    print_columns([[name, safe_line(value)] for name, value in facts if value is not None])


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns aligned."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def local_time(moment: datetime | None) -> str:
    """Write a time for people: in their time zone, to the second."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def seconds_between(start: datetime | None, end: datetime | None) -> str:
    """Write how long something took."""
    if start is None or end is None:
        return ""
    seconds = (end - start).total_seconds()
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{seconds:02}s" if hours else f"{minutes}m{seconds:02}s"


def _print_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(no_color=bool(os.environ.get("NO_COLOR"))).print(table)


_STYLES = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "lost": "red",
    "cancelled": "yellow",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "error": "red",
    "warning": "yellow",
}
