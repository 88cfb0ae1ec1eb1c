"""Wait until a file is there; a second one waits in the queue."""

# /// script
# [tool.remoterun]
# concurrency = 1
# ///
import time
from pathlib import Path


def main(gate: str) -> str:
    while not Path(gate).exists():
        time.sleep(0.01)
    return "done"
