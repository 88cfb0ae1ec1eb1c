"""Write pieces of bytes, given in hexadecimal, with a pause between them."""

import sys
import time


def main(pieces: list[str], stream: str = "stdout", pause: float = 0.03) -> None:
    target = getattr(sys, stream).buffer
    for piece in pieces:
        target.write(bytes.fromhex(piece))
        target.flush()
        time.sleep(pause)
