"""Copies of every version of every script, by SHA-256: workers execute these, so an edit never races a start."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from remoterun.catalog.defect import Defect
from remoterun.catalog.scan import distrust

MAX_BYTES = 2**20  # of a script
_VERSION = re.compile(r"[0-9a-f]{64}")


class Versions:
    """The folder of copies, `<version>.py`, each with what was learned about it, `<version>.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder, for us alone.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def source(self, version: str) -> Path:
        """Give the path of a version's copy."""
        return self.folder / f"{version}.py"

    def keep(self, data: bytes) -> str:
        """Keep a copy and give its version.

        Raises:
            OSError: it cannot be written.
        """
        version = hashlib.sha256(data).hexdigest()
        path = self.source(version)
        # A power failure may leave a copy whose name reached the disk before its bytes did.
        if not _has_size(path, len(data)):
            self._write(path, data)
        return version

    def load(self, version: str) -> bytes | None:
        """Give a version's bytes, or None where there is no whole copy of it."""
        if not _VERSION.fullmatch(version):
            return None
        try:
            data = self.source(version).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == version else None

    def load_notes(self, version: str) -> bytes | None:
        """Give what was noted about a version, or None."""
        try:
            return (self.folder / f"{version}.json").read_bytes()
        except OSError:
            return None

    def keep_notes(self, version: str, data: bytes) -> None:
        """Note something about a version; a disk that is full only costs the next start time."""
        with suppress(OSError):
            self._write(self.folder / f"{version}.json", data)

    def prune(self, current: Collection[str], before: float) -> None:
        """Remove what was last current before a time (seconds since the epoch), and note what is current now."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.partition(".")[0] in current:
                    os.utime(entry.path)
                elif entry.stat(follow_symlinks=False).st_mtime < before:
                    with suppress(OSError):
                        os.unlink(entry.path)  # noqa: PTH108 - it is a text

    def _write(self, path: Path, data: bytes) -> None:
        draft = f"{path}.{os.getpid()}-{threading.get_ident()}"
        try:
            with open(draft, "wb", opener=_open_for_us_alone) as file:
                file.write(data)
            os.replace(draft, path)  # noqa: PTH105 - a thousand at the first start: Paths would cost more
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)  # noqa: PTH108 - it is a text
            raise


def _open_for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read_script(path: str) -> bytes:
    """Read a script, having looked at the very file that was opened.

    Raises:
        Defect: it is too large, others could have written it, or it cannot be read.
    """
    try:
        # Non-blocking: a named pipe in a regular file's place must not hold us up.
        descriptor = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Defect(f"it cannot be read: {error.strerror}", passing=True) from error
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Defect("it is no regular file")
        if reason := distrust(path, status):
            raise Defect(reason)
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise Defect("it is larger than 1 MiB; move its data to a file beside it")
    return data


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
