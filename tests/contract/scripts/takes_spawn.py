# /// script
# [tool.remoterun]
# isolation = "spawn"
# ///
"""Take files, and say what came."""

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

from remoterun import script


def told(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    data = path.read_bytes()
    path.write_bytes(b"what a script does to its copy is its own affair")
    return {"name": path.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "at": str(path)}


def main(
    one: Annotated[Path, script.Upload],
    more: list[Annotated[Path, script.Upload]] = [],  # noqa: B006 - as one writes it
    maybe: Annotated[Path, script.Upload] | None = None,
    n: int = 0,
) -> dict[str, Any]:
    found = {"one": told(one), "more": [told(path) for path in more], "maybe": told(maybe), "n": n}
    folder = Path(os.environ["REMOTERUN_ARTIFACTS"]).parent
    assert all(Path(item["at"]).is_relative_to(folder) for item in [found["one"], *found["more"]])
    return found
