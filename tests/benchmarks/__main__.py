"""Measure what calls cost, each figure beside a floor measured in the same run: `make bench`.

Only loopback addresses are used, every load is bounded, and all that is started is ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import report
from measure import MeasureError, Row, absent, run_rounds
from place import Place, place
from subjects import (
    activemq,
    command,
    environments,
    growth,
    http,
    memory,
    page,
    preloaded,
    processes,
    rabbitmq,
    rpc,
    sockets,
    submit,
    zeromq,
)

_SUBJECTS: Mapping[str, Callable[[Place], list[Row]]] = {
    "socket": sockets.rows,
    "http": http.rows,
    "rpc": rpc.rows,
    "zeromq": zeromq.rows,
    "rabbitmq": rabbitmq.rows,
    "activemq": activemq.rows,
    "fork": processes.rows,
    "pandas": preloaded.rows,
    "environment": environments.rows,
    "submit": submit.rows,
    "growth": growth.rows,
    "command": command.rows,
    "memory": memory.rows,
    "page": page.rows,
}


def main() -> int:
    """Measure, print the table, and give the exit code."""
    options = _options()
    rows: list[Row] = []
    for name in options.subjects or _SUBJECTS:
        print(f"{name} …", end="", file=sys.stderr, flush=True)
        began = time.monotonic()
        rows += _measured(name, options.rounds)
        print(f" {time.monotonic() - began:.0f} s", file=sys.stderr)
    machine = report.machine()
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "rows": report.values(rows)}, indent=1) + "\n")
    print(f"{machine}; the median of {options.rounds} rounds ± half the distance from least to greatest\n")
    print(report.markdown(rows) if options.markdown else report.text(rows))
    return 0


def _measured(name: str, rounds: int) -> list[Row]:
    with place() as here:
        try:
            rows = _SUBJECTS[name](here)
        except MeasureError as error:
            return [Row(name, absent(name, "ms", str(error)))]
        run_rounds(rows, rounds)
        return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"some of: {', '.join(_SUBJECTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each figure is measured (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values to a file as well")
    parser.add_argument("--markdown", action="store_true", help="print the table as the README has it")
    options = parser.parse_args()
    if unknown := [name for name in options.subjects if name not in _SUBJECTS]:
        parser.error(f"there is no subject {', '.join(unknown)}; there are: {', '.join(_SUBJECTS)}")
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
