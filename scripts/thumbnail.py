"""Make a thumbnail of a picture that comes along with the call.

    remoterun run thumbnail picture@holiday.jpg size=200
    remoterun artifacts ID -o .

Args:
    picture: the picture; anything that Pillow opens.
    size: the longest side in pixels, 8 to 2000.
    format: of the thumbnail.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["pillow>=11"]
#
# [tool.remoterun]
# timeout = "1m"
# memory = "1GB"
# preload = ["PIL.Image", "PIL.ImageOps"]
# description = "Make a thumbnail of a picture"
# ///

from pathlib import Path
from typing import Annotated, Literal

from PIL import Image, ImageOps

from remoterun import script

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


def main(
    picture: Annotated[Path, script.Upload], size: int = 256, format: Literal["png", "jpeg", "webp"] = "png"
) -> dict[str, object]:
    if not 8 <= size <= 2000:
        raise ValueError(f"size is 8 to 2000 pixels, not {size}")
    with Image.open(picture) as opened:
        was = opened.size
        image = ImageOps.exif_transpose(opened)  # upright, as the camera was held
        image.thumbnail((size, size))
        if format == "jpeg" or image.mode not in ("RGB", "RGBA", "L", "LA"):
            image = image.convert("RGB")
        target = script.artifact(f"{picture.stem}-{size}{SUFFIXES[format]}")
        image.save(target, format.upper())
    return {"thumbnail": target.name, "was": list(was), "is": list(image.size), "bytes": target.stat().st_size}
