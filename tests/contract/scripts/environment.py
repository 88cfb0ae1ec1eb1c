# /// script
# [tool.remoterun]
# env = ["SEEN_*"]
# ///
"""Tell what a job sees of the world."""

import os
from pathlib import Path
from typing import Any

from remoterun import script


def main() -> dict[str, Any]:
    before = [path.name for path in Path().iterdir()]
    Path("left-behind").write_text("x")
    job = script.job()
    return {
        "environ": dict(os.environ),
        "cwd": str(Path.cwd()),
        "files": before,
        "tty": os.isatty(0) or os.isatty(1),
        "descriptors": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()),
        "job": {"id": job.id, "attempt": job.attempt, "trace": job.trace},
    }
