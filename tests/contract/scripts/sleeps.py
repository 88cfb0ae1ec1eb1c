import time


def main(seconds: float = 60.0) -> None:
    print("started", flush=True)
    time.sleep(seconds)
