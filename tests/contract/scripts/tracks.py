"""Go through things as one does with tqdm."""

from remoterun import script


def main(n: int) -> int:
    return sum(script.track(range(n), message="counting"))
