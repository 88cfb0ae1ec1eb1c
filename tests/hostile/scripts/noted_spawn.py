# /// script
# [tool.remoterun]
# isolation = "spawn"
# ///
"""Note the start, work, in a fresh interpreter."""

import time

from _journal import note


def main(journal: str, work: float = 0.0) -> str:
    note(journal)
    print("working", flush=True)
    time.sleep(work)
    return "done"
