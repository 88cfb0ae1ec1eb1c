"""Write the tables of settings, from their definitions: a script's into the README, the node's into docs/settings.md.

Each goes between two marks, `<!-- settings -->` and `<!-- /settings -->`. With `--check` nothing is written, and the
exit code is 1 where a file differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from remoterun.catalog import ScriptSettings
from remoterun.config import reference
from remoterun.settings import script_reference
from remoterun.transport import installed

ROOT = Path(__file__).parents[2]
README, SETTINGS = ROOT / "README.md", ROOT / "docs" / "settings.md"


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
        print(f"behind the settings: {', '.join(behind)}; run `make reference`", file=sys.stderr)
        return 1
    return 0


def tables() -> dict[Path, str]:
    """Give the present table of each file."""
    sections = {transport.name: transport.settings for transport in installed().values()}
    return {README: script_reference(ScriptSettings), SETTINGS: reference(sections)}


def with_table(path: Path, table: str) -> str:
    """Give a file's text with a table between its two marks.

    Raises:
        ValueError: the text does not have each mark once.
    """
    text = path.read_text(encoding="utf-8")
    start, end = "<!-- settings -->\n", "<!-- /settings -->\n"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{path.name} needs one line {start.strip()} and one line {end.strip()}")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{table.strip()}\n\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    sys.exit(main())
