"""Write a number of bytes, say `waiting`, and go on once a file is there."""

# /// script
# [tool.remoterun]
# concurrency = 2
# ///
import sys
import time
from pathlib import Path


def main(gate: str, flood: int = 0) -> str:
    line = "x" * 99 + "\n"
    for _ in range(flood // 100):
        sys.stdout.write(line)
    print("waiting", flush=True)
    while not Path(gate).exists():
        time.sleep(0.01)
    print("going on", flush=True)
    return "done"
