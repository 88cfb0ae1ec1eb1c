"""Measure the deployments side by side, in one run: `make bench-deployments`.

Bare servers stand beside them as yardsticks. Only loopback addresses are used, and all that is started is ended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import report
from deployments import plot, table
from deployments.contenders import Contender, contenders
from place import place

_ROOT = Path(__file__).parents[2]
_PAGE, _PICTURE = _ROOT / "deploy" / "README.md", _ROOT / "docs" / "deployments.svg"


def main() -> int:
    """Measure, print the table, and give the exit code: 1 where a call failed, or nothing was measured."""
    options = _options()
    if options.list:
        print("\n".join(f"{each.key:16} {each.name}" for each in contenders()))
        return 0
    chosen = [each for each in contenders() if not options.rows or each.key in options.rows]
    _measure(chosen, options.rounds, options.seconds)
    found = table.markdown(chosen, options.rounds, options.seconds)
    print(found)
    if options.json is not None:
        options.json.write_text(json.dumps(_values(chosen), indent=1) + "\n")
    failed = [each.name for each in chosen if each.missing or (each.errors and each.kind == "ours")]
    if options.write and not failed:
        table.write(_PAGE, f"{found}\n\n![The table as a plot](../docs/{_PICTURE.name})")
        plot.draw(chosen, _PICTURE)
    if failed:
        print(f"not measured, or with failed calls: {', '.join(failed)}; nothing is written", file=sys.stderr)
    return int(bool(failed))


def _measure(chosen: Sequence[Contender], rounds: int, seconds: int) -> None:
    with place() as here:
        for each in chosen:
            print(f"{each.name} …", file=sys.stderr, flush=True)
            each.start(here)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for each in chosen:
                each.measure(seconds)


def _values(chosen: Sequence[Contender]) -> dict[str, object]:
    rows = [
        {
            "key": each.key,
            "name": each.name,
            "missing": each.missing or None,
            "rounds": [asdict(one) for one in each.taken],
        }
        for each in chosen
    ]
    return {"machine": report.machine(), "rows": rows}


def _options() -> argparse.Namespace:
    keys = [each.key for each in contenders()]
    parser = argparse.ArgumentParser(prog="make bench-deployments", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"some of: {', '.join(keys)}")
    parser.add_argument("--list", action="store_true", help="only list the rows")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured, in turn (default: 3)")
    parser.add_argument("--seconds", type=int, default=5, help="of one measurement (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: whether it works at all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values to a file as well")
    parser.add_argument("--write", action="store_true", help="put the table into deploy/README.md, the plot into docs/")
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in keys]:
        parser.error(f"there is no row {', '.join(unknown)}; there are: {', '.join(keys)}")
    if options.write and options.rows:
        parser.error("--write writes the whole table: name no rows")
    if options.quick:
        options.rounds = options.seconds = 1
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
