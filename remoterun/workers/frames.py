"""The frames between the node and a worker; standard library only: both sides use it.

A frame is its length (4 bytes, big-endian) and that many bytes of body. To the worker the body is JSON, a call; or
it is empty: the node has read what the last call wrote. From the worker it is a kind (1 byte), flags (1 byte) and a
payload:

    R  the call ended; the payload is its result, JSON text
    E  the call ended by an exception or an exit; the payload is a JSON object

Flags: OUTPUT, its output still stands in its pipes, and the worker waits for an empty frame; FILES, it left files in
the folder that the payload's first line names; UNCLEAN, it should not be used again; SLOW, the call took more than a
millisecond.

A warm worker takes its further calls from a queue of its own (see `calls`): a message is a call's JSON without a
length, or LARGE, and then the call comes as a frame.
"""

from __future__ import annotations

HEADER = 4
LARGEST = 64 * 2**20  # a worker that claims more is broken

RESULT = ord("R")
ERROR = ord("E")

OUTPUT = 1
FILES = 2
UNCLEAN = 4
SLOW = 8

LARGE = b"L"
LARGEST_QUEUED = 2**15  # bytes of a message in the queue


def frame(body: bytes) -> bytes:
    """Give a body as a frame."""
    return len(body).to_bytes(HEADER, "big") + body


class Frames:
    """Collect bytes, give whole bodies; pure.

    Parameters:
        largest: bytes that a body may have.

    Raises (from `feed`):
        ValueError: a frame claims to be larger.
    """

    __slots__ = ("_buffer", "largest", "missing")

    def __init__(self, largest: int = LARGEST) -> None:
        self.largest = largest
        self._buffer = bytearray()
        self.missing = 0  # bytes that the frame under way still lacks, as far as is known

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and give the bodies that are complete."""
        if not self._buffer and len(data) > HEADER and len(data) == HEADER + int.from_bytes(data[:HEADER], "big"):
            return [data[HEADER:]]  # nearly always: one frame, whole
        self._buffer += data
        bodies = []
        start = 0
        self.missing = 0
        while len(self._buffer) - start >= HEADER:
            size = int.from_bytes(self._buffer[start : start + HEADER], "big")
            if size > self.largest:
                raise ValueError(f"a frame of {size} bytes")
            end = start + HEADER + size
            if len(self._buffer) < end:
                self.missing = end - len(self._buffer)
                break
            bodies.append(bytes(self._buffer[start + HEADER : end]))
            start = end
        del self._buffer[:start]
        return bodies
