"""Memory of an idle node: its whole process tree, and what each worker forked ahead holds alone."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from measure import Figure, MeasureError, Row, Target
from place import Place


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    node = place.node()
    return [
        Row(
            "memory: idle node, whole tree (PSS)",
            Figure("idle node", "MB", lambda: _megabytes([node.pid, *_descendants(node.pid)], ("Pss",))),
            (),
            [Target("≤", 80)],
        ),
        Row(
            "memory: a worker forked ahead, its own",
            Figure("worker", "MB", lambda: _of_a_worker(node.pid)),
            (),
            [Target("≤", 4)],
        ),
    ]


def _of_a_worker(node: int) -> float:
    workers = [pid for server in _children(node) for pid in _children(server)]
    if not workers:
        raise MeasureError("no worker is forked ahead")
    return statistics.mean(_megabytes([pid], ("Private_Clean", "Private_Dirty")) for pid in workers)


def _megabytes(pids: list[int], kinds: tuple[str, ...]) -> float:
    kilobytes = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        kilobytes += sum(
            int(size) for kind, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE) if kind in kinds
        )
    return kilobytes * 1024 / 1e6


def _descendants(pid: int) -> list[int]:
    found = []
    for child in _children(pid):
        found += [child, *_descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
