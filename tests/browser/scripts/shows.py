"""Leave a picture, a table, a page and a result."""

import sys
import zlib

from remoterun import script

ATTACK = "<script>parent.hacked = hacked = 1</script>"


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def main() -> list[dict[str, object]]:
    header = (8).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress((b"\x00" + b"\xff\x80\x00" * 8) * 8)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    script.artifact("plots/plot.png").write_bytes(png)
    script.artifact("rows.csv").write_text('name,rows\n"<b>ada</b>",3\nbob,14\n')
    script.artifact("page.html").write_text(f"<h1>Hello</h1>{ATTACK}<img src=x onerror=hacked=1>")
    script.artifact("drawing.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{ATTACK}<rect width="9" height="9"/></svg>'
    )
    print("\x1b[31mred\x1b[0m and plain")
    print("to stderr", file=sys.stderr)
    print("10%\r20%\r\x1b[K100%")
    return [{"day": "<i>2026</i>", "rows": 3}, {"day": "2027", "rows": 14}]
