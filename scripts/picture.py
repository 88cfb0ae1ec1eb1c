"""Draw a fractal and leave it as a PNG picture.

Nothing is needed but Python: a PNG is a signature, three chunks and zlib.

Args:
    pattern: mandelbrot, the whole set; seahorses, a detail of it; or julia, one of its relatives.
    palette: the colours.
    size: width and height in pixels, 16 to 800.
    depth: iterations before a point counts as inside, 8 to 500; more show finer detail and take longer.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "2m"
# concurrency = 2
# description = "Draw a fractal as a PNG picture"
# ///

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Literal

from remoterun import script

Pattern = Literal["mandelbrot", "seahorses", "julia"]
Palette = Literal["fire", "ocean", "rainbow", "grey"]

# What part of the plane is drawn: its centre and its width.
VIEWS = {"mandelbrot": (-0.65 + 0j, 2.7), "seahorses": (-0.745 + 0.113j, 0.012), "julia": (0j, 3.2)}
JULIA = -0.8 + 0.156j


def main(
    pattern: Literal["mandelbrot", "seahorses", "julia"] = "julia",
    palette: Literal["fire", "ocean", "rainbow", "grey"] = "fire",
    size: int = 256,
    depth: int = 120,
) -> dict[str, object]:
    if not 16 <= size <= 800:
        raise ValueError(f"size is 16 to 800 pixels, not {size}")
    if not 8 <= depth <= 500:
        raise ValueError(f"depth is 8 to 500 iterations, not {depth}")
    colours = [colour(palette, step / depth) for step in range(depth)] + [b"\0\0\0"]
    rows = list(script.track(draw(pattern, size, depth, colours), total=size, message="drawing"))
    data = png(size, size, rows)
    script.artifact("picture.png").write_bytes(data)
    return {"picture": "picture.png", "width": size, "height": size, "bytes": len(data)}


def draw(pattern: Pattern, size: int, depth: int, colours: list[bytes]) -> Iterator[bytes]:
    centre, width = VIEWS[pattern]
    pixel = width / size
    start = centre - complex(width, width) / 2 + complex(pixel, pixel) / 2
    for y in range(size):
        points = (start + complex(x * pixel, y * pixel) for x in range(size))
        if pattern == "julia":
            steps = (escape(point, JULIA, depth) for point in points)
        else:
            steps = (escape(0j, point, depth) for point in points)
        yield b"".join([colours[step] for step in steps])


def escape(z: complex, c: complex, depth: int) -> int:
    """Count the steps until the point leaves a circle of radius 2; `depth` where it does not."""
    for step in range(depth):
        if z.real * z.real + z.imag * z.imag > 4.0:
            return step
        z = z * z + c
    return depth


def colour(palette: Palette, share: float) -> bytes:
    level = math.sqrt(share)
    parts: tuple[float, ...]
    match palette:
        case "fire":
            parts = (3 * level, 3 * level - 1, 3 * level - 2)
        case "ocean":
            parts = (3 * level - 2, 2 * level - 0.6, 0.2 + 1.6 * level)
        case "rainbow":
            parts = tuple(0.5 + 0.5 * math.cos(2 * math.pi * (level * 1.5 + shift)) for shift in (0.0, 1 / 3, 2 / 3))
        case "grey":
            parts = (level, level, level)
    return bytes(round(255 * min(max(part, 0.0), 1.0)) for part in parts)


def png(width: int, height: int, rows: list[bytes]) -> bytes:
    """Write an RGB picture, eight bits a channel, every row unfiltered."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
