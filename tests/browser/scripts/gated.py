"""Write a numbered line for each line of a file that others write to, until it says stop."""

import time
from pathlib import Path

from remoterun import script


def main(path: str) -> str:
    seen = 0
    while True:
        lines = Path(path).read_text().split("\n")[:-1]
        for line in lines[seen:]:
            seen += 1
            print(f"{seen}: {line}", flush=True)
            script.progress(seen, 10, "reading")
            if line == "stop":
                return "stopped"
        time.sleep(0.01)
