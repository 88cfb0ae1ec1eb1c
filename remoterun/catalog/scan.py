"""Find the scripts: walk the folders, give names, refuse files that others could have written.

A script's name comes out of this walk and nowhere else, so no text of a caller's ever becomes a path.
"""

# ruff: noqa: PTH116, PTH120 - a Path for each of a thousand files a second costs more than the look itself

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_DEPTH = 16  # of folders in folders
_UNSPEAKABLE = frozenset("*?[]\\:")  # they mean something in patterns and addresses

Signature = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is a script by its place and name."""

    name: str
    path: str  # absolute
    folder: str  # the scripts folder that it was found under
    signature: Signature  # differs once the file was written, replaced, or its rights changed
    refused: str | None = None  # why it must not be run, with what to type


def signature(status: os.stat_result) -> Signature:
    """Give what changes of a file's status when its content or its rights do."""
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns, status.st_dev)


def scan(folders: Sequence[str]) -> dict[str, Found]:
    """Find every script below the folders, by name; the first folder that has a name wins.

    Parameters:
        folders: absolute paths without symbolic links. One that is gone counts as empty.
    """
    found: dict[str, Found] = {}
    for folder in folders:
        for script in walk(folder):
            found.setdefault(script.name, script)
    return found


def walk(folder: str) -> Iterator[Found]:
    """Find every script below one folder."""
    pending: list[tuple[str, str, str | None, int]] = [(folder, "", None, 0)]
    while pending:
        path, prefix, refused, depth = pending.pop()
        try:
            refused = refused or distrust(path, os.stat(path))
            entries = os.scandir(path)
        except OSError:  # removed meanwhile, or closed to us: nothing in it can be called
            continue
        with entries:
            for entry in entries:
                if not _is_speakable(entry.name):
                    continue
                if entry.name.endswith(".py") and (script := _script(entry, folder, prefix, refused)):
                    yield script
                elif depth < MAX_DEPTH and entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, f"{prefix}{entry.name}/", refused, depth + 1))


def distrust(path: str, status: os.stat_result) -> str | None:
    """Say why a file or folder could have been written by somebody else, with what to type; None: it could not."""
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to another user; if you trust it type: chown {os.geteuid()} {shlex.quote(path)}"
    if status.st_mode & stat.S_IWOTH:
        return f"{path} can be written by everybody; type: chmod o-w {shlex.quote(path)}"
    if status.st_mode & stat.S_IWGRP and status.st_gid != os.getegid():
        return f"{path} can be written by the group {status.st_gid}; type: chmod g-w {shlex.quote(path)}"
    return None


def _is_speakable(name: str) -> bool:
    return name[0] not in "._" and name.isprintable() and _UNSPEAKABLE.isdisjoint(name)


def _script(entry: os.DirEntry[str], folder: str, prefix: str, refused: str | None) -> Found | None:
    try:
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not target.startswith(folder.rstrip("/") + "/"):
                return None
            refused = refused or _distrust_folders(folder, target)
    except OSError:  # removed meanwhile, or a link to nothing
        return None
    refused = refused or distrust(entry.path, status)
    return Found(prefix + entry.name[:-3], entry.path, folder, signature(status), refused)


def _distrust_folders(folder: str, target: str) -> str | None:
    """Look at every folder between a link's target and the scripts folder."""
    parent = os.path.dirname(target)
    while len(parent) > len(folder):
        if reason := distrust(parent, os.stat(parent)):
            return reason
        parent = os.path.dirname(parent)
    return None
