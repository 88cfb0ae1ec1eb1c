"""Count down, a line for each step: for watching live output, progress, and what cancelling does.

    remoterun run countdown -- 5
    remoterun run countdown -- 100 --every 0.1

A plain script. On SIGTERM, which `cancel`, a timeout and a stopping node send, it says where it was and ends with 143.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "1h"
# description = "Count down, a line for each step"
# ///

import argparse
import signal
import sys
import time
from types import FrameType

from remoterun import script


class Stopped(Exception):
    """SIGTERM came."""


def on_sigterm(number: int, frame: FrameType | None) -> None:
    raise Stopped


def count_down(start: int, every: float) -> None:
    for left in range(start, 0, -1):
        print(left, flush=True)
        script.progress(start - left, start, f"{left} to go")
        time.sleep(every)
    script.progress(start, start, "lift-off")
    print("lift-off", flush=True)


def main_program() -> int:
    parser = argparse.ArgumentParser(prog="countdown", description="Count down, a line for each step.")
    parser.add_argument("start", nargs="?", type=int, default=10, help="where to start (default 10)")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="time for each step (default 1)")
    arguments = parser.parse_args()
    if not 0 <= arguments.start <= 1_000_000 or not 0 <= arguments.every <= 3600:
        parser.error("start is 0 to 1000000, --every 0 to 3600 seconds")
    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        count_down(arguments.start, arguments.every)
    except Stopped:
        print("stopped before the end", flush=True)
        return 128 + signal.SIGTERM
    return 0


if __name__ == "__main__":
    sys.exit(main_program())
