# /// script
# [tool.remoterun]
# retries = 2
# retry_on = ["lost"]
# retry_delay = "50ms"
# ///
"""Note the start, work; start again where the node died meanwhile."""

import time

from _journal import note


def main(journal: str, work: float = 0.0) -> str:
    note(journal)
    print("working", flush=True)
    time.sleep(work)
    return "done"
