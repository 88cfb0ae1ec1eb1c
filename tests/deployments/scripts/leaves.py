"""Write and leave more than fits any buffer on the way."""

import random
import sys

from remoterun import script


def main(seed: int, artifact: int, output: int) -> None:
    noise = random.Random(seed)
    script.artifact("big.bin").write_bytes(noise.randbytes(artifact))
    sys.stdout.write(noise.randbytes(output // 2).hex())
