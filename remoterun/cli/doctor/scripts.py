"""The scripts folders, and what builds environments for scripts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from remoterun.catalog.scan import walk
from remoterun.cli.doctor.finding import Finding

_PATIENCE = 10.0  # seconds


def look(folders: Sequence[Path]) -> Iterator[Finding]:
    """Look at folders of scripts, and at uv."""
    yield check_uv()
    for folder in folders:
        yield check_scripts(folder)


def check_scripts(folder: Path) -> Finding:
    """Say whether a scripts folder can be read, and whether others may change what runs."""
    if not folder.is_dir():
        return Finding("scripts", "warn", f"there is no folder {folder}; make it, or name another: serve SCRIPTS")
    if not os.access(folder, os.R_OK | os.X_OK):
        return Finding("scripts", "fail", f"{folder} cannot be read; chmod it, or run the node as its owner")
    found = list(walk(os.path.realpath(folder)))
    refused = [script for script in found if script.refused]
    if refused:
        count = f"{len(refused)} of {len(found)} are refused"
        return Finding("scripts", "fail", f"{count}: {refused[0].refused}", f"{count}: others may write them")
    return Finding("scripts", "ok", f"{len(found)} in {folder}; `remoterun check` looks into them", f"{len(found)}")


def check_uv() -> Finding:
    """Say whether scripts can have packages of their own."""
    from remoterun.environments.uv import NoUv, find_uv

    try:
        said = subprocess.run(
            [find_uv(), "--version"], capture_output=True, text=True, timeout=_PATIENCE, check=True
        ).stdout
    except NoUv:
        advice = "scripts that say `dependencies` cannot be called; pip install 'remoterun[environments]'"
        return Finding("uv", "warn", f"not installed: {advice}")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            "uv", "fail", f"it cannot be run ({error}); pip install --force-reinstall uv", "it cannot be run"
        )
    return Finding("uv", "ok", said.strip())
