"""Take any number of files by any names, and files in a model."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from remoterun import script


class Page(BaseModel):
    title: str
    scan: Annotated[Path, script.Upload] | None = None


def main(pages: list[Page] = [], **files: Annotated[Path, script.Upload]) -> dict[str, str]:  # noqa: B006
    found = {page.title: page.scan.read_text() for page in pages if page.scan is not None}
    return found | {name: path.read_text() for name, path in files.items()}
