"""Write the time, now and then."""

import time


def main(count: int = 20) -> None:
    time.sleep(0.5)  # until somebody looks
    for _ in range(count):
        print(time.time() * 1000, flush=True)
        time.sleep(0.1)
