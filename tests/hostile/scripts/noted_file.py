# /// script
# [tool.remoterun]
# isolation = "fork"
# ///
"""Note the start, and read a file that came along."""

import time
from pathlib import Path
from typing import Annotated

from _journal import note

from remoterun import script


def main(journal: str, file: Annotated[Path, script.Upload], work: float = 0.0) -> str:
    note(journal)
    if file.read_bytes() != bytes(100_000):
        raise ValueError("the file is not what was sent")
    time.sleep(work)
    return "done"
