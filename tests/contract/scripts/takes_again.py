# /// script
# [tool.remoterun]
# retries = 1
# retry_delay = "0s"
# ///
"""Spoil the file at the first attempt, and say at the second what came."""

from pathlib import Path
from typing import Annotated

from remoterun import script


def main(data: Annotated[Path, script.Upload]) -> str:
    text = data.read_text()
    data.write_text("spoilt")
    if script.job().attempt == 1:
        raise OSError("the first attempt fails")
    return text
