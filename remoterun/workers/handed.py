"""The files that a caller sent along, inside a worker: copies of the script's own; standard library only."""

from __future__ import annotations

import os
import shutil
from typing import Any


def hand_over(files: list[Any], params: dict[str, Any], folder: str) -> dict[str, Any]:
    """Copy files into a job's folder, and give its parameters with the copies' paths.

    Parameters:
        files: of each one the place among the parameters, the path of what is kept, and the name for the script.
        folder: the job's; it gets a folder `files`, and in it one for each file, so that equal names do no harm.
    """
    os.mkdir(f"{folder}/files", 0o700)
    for number, (place, source, name) in enumerate(files):
        home = f"{folder}/files/{number}"
        os.mkdir(home, 0o700)
        shutil.copyfile(source, f"{home}/{name}")
        _put(params, place, f"{home}/{name}")
    return params


def take_back(folder: str) -> None:
    """Remove the copies, whatever the script made of them."""
    shutil.rmtree(f"{folder}/files", ignore_errors=True)


def _put(value: Any, place: list[Any], path: str) -> None:
    *way, last = place
    for step in way:
        value = value[step]
    value[last] = path
