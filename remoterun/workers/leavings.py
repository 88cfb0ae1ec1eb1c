"""What a job left in its folder: artifacts are taken into the node's keeping."""

from __future__ import annotations

import mimetypes
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remoterun.messages import ArtifactInfo

_DEEPEST = 16  # folders below the artifacts folder
_LONGEST = 512  # characters of an artifact's name


@dataclass(frozen=True, slots=True)
class Leavings:
    """What was taken; `refused` says in one line what was left out and why, or is None."""

    artifacts: tuple[ArtifactInfo, ...] = ()
    result: bytes | None = None
    refused: str | None = None


def take(folder: Path, keep: Path, *, most_files: int, most_bytes: int, most_result: int) -> Leavings:
    """Move artifacts from a job's folder to where they are kept, and read its result; the folder stays to be removed.

    Parameters:
        folder: the job's folder, with `artifacts` and perhaps `result` in it.
        keep: where to move the files; made if there are any.
        most_files, most_bytes: bounds on what is kept.
        most_result: bytes read of the result file at most.

    Links, devices, sockets and names with control characters are left out: they are never followed or opened.
    """
    if not _is_folder(folder):
        return Leavings(refused="the job's folder was replaced by something else: nothing in it was kept")
    artifacts, refused = _take_files(folder / "artifacts", keep, most_files, most_bytes)
    result = _read_result(folder / "result", most_result)
    return Leavings(artifacts, result, refused)


def _take_files(
    source: Path, keep: Path, most_files: int, most_bytes: int
) -> tuple[tuple[ArtifactInfo, ...], str | None]:
    if not _is_folder(source):
        return (), None
    taken: list[ArtifactInfo] = []
    total = 0
    for name, status in _files(source, "", 0):
        if not stat.S_ISREG(status.st_mode) or not is_safe_name(name):
            continue
        if len(taken) >= most_files:
            return tuple(taken), f"more than {most_files} artifacts (limits.artifact_count): the rest was not kept"
        total += status.st_size
        if total > most_bytes:
            return tuple(taken), f"artifacts beyond {most_bytes} bytes (limits.artifacts) were not kept"
        target = keep / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (source / name).rename(target)
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        taken.append(ArtifactInfo(name=name, size=status.st_size, media_type=media_type))
    return tuple(taken), None


def _is_folder(path: Path) -> bool:
    """Tell whether this is a folder itself, and no link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _files(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if depth < _DEEPEST:
                        yield from _files(Path(entry.path), f"{name}/", depth + 1)
                else:
                    yield name, entry.stat(follow_symlinks=False)
    except OSError:
        return


def is_safe_name(name: str) -> bool:
    """Tell whether an artifact's name is printable text that stays below its folder."""
    parts = name.split("/")
    return name.isprintable() and len(name) <= _LONGEST and not any(part in ("", ".", "..") for part in parts)


def _read_result(path: Path, most: int) -> bytes | None:
    """Read the file that a plain script left as its result; never through a link, never waiting for a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return file.read(most + 1)
