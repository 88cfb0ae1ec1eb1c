"""Say what came."""

import hashlib
from pathlib import Path
from typing import Annotated

from remoterun import script


def main(file: Annotated[Path, script.Upload], n: int = 0) -> dict[str, object]:
    return {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "n": n}
