from pathlib import Path
from typing import Annotated

from remoterun import script


def main(
    title: str, picture: Annotated[Path, script.Upload], pages: list[Annotated[Path, script.Upload]]
) -> dict[str, object]:
    """Take files that the caller sends along."""
    return {"title": title, picture.name: picture.stat().st_size, "pages": [page.read_text() for page in pages]}
