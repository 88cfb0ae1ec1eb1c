"""Write lines as fast as they are taken, once a file is there."""

import os
import time


def main(gate: str, lines: int = 1000, width: int = 100, pause: float = 0.0) -> None:
    print("ready", flush=True)
    while not os.path.exists(gate):
        time.sleep(0.02)
    for number in range(lines):
        os.write(1, f"{number} {'x' * width}\n".encode())
        if pause:
            time.sleep(pause)
