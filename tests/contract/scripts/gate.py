"""Say `waiting`, and go on once a file is there."""

import time
from pathlib import Path


def main(path: str, then: str = "done") -> str:
    print("waiting", flush=True)
    while not Path(path).exists():
        time.sleep(0.005)
    print("going on", flush=True)
    return then
