"""Start a new script from a template that works and shows what a script can do."""

from __future__ import annotations

import re
from pathlib import Path

from remoterun.errors import ConfigError

_PART = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

_TEMPLATE = '''\
# /// script
# requires-python = ">=3.11"
# # dependencies = ["pydantic", "pillow>=10"]   # packages for this script alone: list all that it imports
#
# [tool.remoterun]
# timeout = "1m"              # the job is stopped after that; "0" for no limit
# # isolation = "warm"        # keep the process and its module state between calls
# # concurrency = 1           # at most so many at once, on one node
# # env = ["AWS_*"]           # what it may see of the node's environment and secrets; everything else is cleared
# ///
"""Greet somebody."""

from typing import Annotated

from pydantic import Field
from remoterun import script


def main(name: str, times: Annotated[int, Field(ge=1, le=100)] = 1) -> dict[str, str]:
    """Greet somebody, as often as you like.

    The signature says what callers may pass; a call with bad parameters is refused before this runs. A parameter
    `photo: Annotated[Path, script.Upload]` would be a file that the caller sends along.

    Parameters:
        name: who is greeted.
        times: how often.
    """
    print("printed lines reach the caller while the script runs")
    greetings = [f"hello {name}" for _ in script.track(range(times), message="greeting")]  # tells how far it is
    script.artifact("greetings.txt").write_text("\\n".join(greetings))  # a file that stays with the job
    return {"greeting": ", ".join(greetings)}  # the result, as JSON
'''


def create(folder: Path, name: str) -> Path:
    """Write a new script and give its path.

    Parameters:
        folder: a scripts folder; it is made where there is none.
        name: the script's name, with `/` for folders.

    Raises:
        ConfigError: the name is no good, there is such a file already, or it cannot be written.
    """
    parts = name.split("/")
    for part in parts:
        if not _PART.fullmatch(part):
            raise ConfigError(
                f"{name!r} is no name for a script: write letters, digits, _ and -, "
                "each part beginning with a letter, without .py, like reports/daily"
            )
    path = folder.joinpath(*parts[:-1], f"{parts[-1]}.py")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(_TEMPLATE)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already; choose another name") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    return path
