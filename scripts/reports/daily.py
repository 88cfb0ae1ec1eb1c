"""Report what happened in a folder on one day: changed files, and what the log files say.

The answer is JSON; the same as a page to read is the artifact `report.md`. A line of a *.log file counts for
the day that it begins with (2026-11-25 …).

Args:
    folder: the folder, with all below it.
    day: the day, like 2026-11-25; without it, today in the machine's time zone.
    limit: how many changed files to name, the latest first, 1 to 1000.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "10m"
# description = "Report what happened in a folder on one day"
# ///

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

from remoterun import script

LEVEL = re.compile(rb"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
HEAD = 200  # bytes of a log line in which its level is looked for


def main(folder: Path, day: date | None = None, limit: int = 50) -> dict[str, object]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    if not 1 <= limit <= 1000:
        raise ValueError(f"limit is 1 to 1000 files, not {limit}")
    day = day or date.today()
    files = list(find_files(folder))
    changed = sorted(changes(folder, files, day), key=lambda change: change["time"], reverse=True)
    levels = count_levels([file for file in files if file.suffix == ".log"], day)
    report = {"day": day.isoformat(), "folder": str(folder), "files": len(files), "changed": len(changed)}
    script.artifact("report.md").write_text(render(report, changed[:limit], levels), encoding="utf-8")
    return {**report, "latest": changed[:limit], "log_lines": dict(levels)}


def find_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path


def changes(folder: Path, files: list[Path], day: date) -> Iterator[dict[str, str]]:
    for file in script.track(files, message="looking for changes"):
        try:
            status = file.stat()
        except OSError:  # removed meanwhile
            continue
        moment = datetime.fromtimestamp(status.st_mtime)
        if moment.date() == day:
            yield {"path": str(file.relative_to(folder)), "time": moment.isoformat(timespec="seconds")}


def count_levels(logs: list[Path], day: date) -> Counter[str]:
    levels: Counter[str] = Counter()
    start = day.isoformat().encode()
    for log in script.track(logs, message="reading logs"):
        try:
            with log.open("rb") as lines:
                levels.update(level(line) for line in lines if line.startswith(start))
        except OSError:
            levels["unreadable file"] += 1
    return levels


def level(line: bytes) -> str:
    match = LEVEL.search(line, 0, HEAD)
    return match[1].decode() if match else "other"


def render(report: dict[str, object], changed: list[dict[str, str]], levels: Counter[str]) -> str:
    lines = [
        f"# {report['day']}: {escape(str(report['folder']))}",
        "",
        f"{report['changed']} of {report['files']} files changed.",
        "",
    ]
    if changed:
        rows = [f"| {change['time'][11:]} | {escape(change['path'])} |" for change in changed]
        lines += ["## Changed files", "", "| time | file |", "|---|---|", *rows, ""]
    if levels:
        rows = [f"| {name} | {count} |" for name, count in levels.most_common()]
        lines += ["## Log lines", "", "| level | lines |", "|---|---:|", *rows, ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Keep a file's name from being read as Markdown, or as HTML."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>&~])", r"\\\1", text.replace("\n", " "))
