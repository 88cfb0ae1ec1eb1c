"""Wait until a file is there."""

import os
import time


def main(gate: str) -> None:
    while not os.path.exists(gate):
        time.sleep(0.02)
