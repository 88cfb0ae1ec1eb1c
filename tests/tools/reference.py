"""Write the tables of settings and metrics from their definitions: a script's settings into the README, the node's into
docs/settings.md, its metrics into docs/metrics.md.

Each goes between two marks, `<!-- settings -->` and `<!-- /settings -->`, or those of metrics. With `--check` nothing
is written, and the exit code is 1 where a file differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from remoterun import metrics
from remoterun.catalog import ScriptSettings
from remoterun.config import reference
from remoterun.settings import script_reference
from remoterun.transport import installed

ROOT = Path(__file__).parents[2]
README, SETTINGS, METRICS = ROOT / "README.md", ROOT / "docs" / "settings.md", ROOT / "docs" / "metrics.md"


def main() -> int:
    """Write or check the tables, and give the exit code."""
    behind = []
    for path, table in tables().items():
        old = path.read_text(encoding="utf-8")
        new = with_table(path, table)
        if new != old:
            behind.append(path.name)
            if "--check" not in sys.argv[1:]:
                path.write_text(new, encoding="utf-8")
    if behind and "--check" in sys.argv[1:]:
        print(f"behind the code: {', '.join(behind)}; run `make reference`", file=sys.stderr)
        return 1
    return 0


def tables() -> dict[Path, str]:
    """Give the present table of each file."""
    sections = {transport.name: transport.settings for transport in installed().values()}
    return {
        README: script_reference(ScriptSettings),
        SETTINGS: reference(sections),
        METRICS: metrics.reference(),
    }


def with_table(path: Path, table: str) -> str:
    """Give a file's text with a table between its two marks.

    Raises:
        ValueError: the text does not have each mark once.
    """
    text = path.read_text(encoding="utf-8")
    subject = "metrics" if path == METRICS else "settings"
    start, end = f"<!-- {subject} -->\n", f"<!-- /{subject} -->\n"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{path.name} needs one line {start.strip()} and one line {end.strip()}")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{table.strip()}\n\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    sys.exit(main())
