"""Hold the only place there is, so that what is submitted after it waits."""

# /// script
# [tool.remoterun]
# isolation = "fork"
# concurrency = 1
# ///

import time


def main(name: str) -> None:
    time.sleep(600)
