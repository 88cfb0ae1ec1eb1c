# /// script
# [tool.remoterun]
# timeout = "300ms"
# ///
"""Run for longer than it may."""

import time


def main(seconds: float = 60.0) -> str:
    print("started", flush=True)
    time.sleep(seconds)
    return "in time"
