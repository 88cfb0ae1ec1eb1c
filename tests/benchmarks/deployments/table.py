"""The table of deployments, in Markdown, between two marks of the page of deployments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import report
from deployments.contenders import ECHO, YARDSTICK, Contender

START, END = "<!-- deployments -->\n", "<!-- /deployments -->\n"

_HEAD = ("what answers", "calls/s", "half within", "99 of 100 within", "errors", "× uWSGI", "× FastAPI")


def markdown(contenders: Sequence[Contender], rounds: int, seconds: int) -> str:
    """Give the table, with what is to know of its run."""
    rows = [_HEAD, ("---", *("---:",) * (len(_HEAD) - 1)), *(_cells(each, contenders) for each in contenders)]
    in_turn = f"the median of {rounds} rounds in turn" if rounds > 1 else "one round"
    said = (
        f"{report.machine()}; wrk with 16 connections, {seconds} s, {in_turn}. × uWSGI: of “{YARDSTICK}”; × FastAPI: of"
        f" “{ECHO}”. uWSGI says hello world and nothing else; ours proves a token, validates, runs `hello(name)` warm,"
        " and records it."
    )
    return said + "\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)


def with_table(text: str, table: str) -> str:
    """Give a page's text with a table between its two marks.

    Raises:
        ValueError: the text does not have each mark once.
    """
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f"the page needs one line {START.strip()} and one line {END.strip()}")
    before, _, rest = text.partition(START)
    return f"{before}{START}\n{table.strip()}\n\n{END}{rest.partition(END)[2]}"


def write(page: Path, table: str) -> None:
    """Write a table into a page.

    Raises:
        ValueError: the page does not have each mark once.
    """
    page.write_text(with_table(page.read_text(encoding="utf-8"), table), encoding="utf-8")


def _cells(contender: Contender, all_of_them: Sequence[Contender]) -> tuple[str, ...]:
    if not contender.taken:
        return (contender.name, f"– ({contender.missing or 'not measured'})", *("",) * (len(_HEAD) - 2))
    p50, p99 = contender.median(lambda taken: taken.p50), contender.median(lambda taken: taken.p99)
    times = (_times(contender, name, all_of_them) for name in (YARDSTICK, ECHO))
    return (contender.name, f"{contender.rate:,.0f}", f"{p50:.2f} ms", f"{p99:.1f} ms", f"{contender.errors:,}", *times)


def _times(contender: Contender, name: str, all_of_them: Sequence[Contender]) -> str:
    other = next((each.rate for each in all_of_them if each.name == name), None)
    return f"{contender.rate / other:.2f}" if contender.rate and other else "–"
