"""Write again and again until a file is there."""

import time
from pathlib import Path


def main(gate: str) -> None:
    while not Path(gate).exists():
        print("tick", flush=True)
        time.sleep(0.02)
