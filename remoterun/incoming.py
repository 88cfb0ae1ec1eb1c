"""Files that callers send along, while they arrive: in a folder that is emptied at each start, bounded, and fsynced.

A transport whose wire is a stream writes them here piece by piece, so that no file is ever held in memory. What
becomes of them is the dispatcher's: it moves those of an accepted call to the job. `Reception` removes the others.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from remoterun import failpoints
from remoterun.errors import Invalid, ServiceError, TooLarge, Unavailable
from remoterun.messages import FileOnDisk
from remoterun.quantities import format_size

MOST_FILES: Final = 100
"""Files of one call: each is an inode, whatever its size."""

_LONGEST_NAME = 200  # bytes; file systems take 255
_LONGEST_SUFFIX = 20  # bytes
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Incoming:
    """The folder in which files arrive.

    Parameters:
        folder: for this alone.
        largest: bytes that the files of one call may have together.
    """

    def __init__(self, folder: Path, largest: int) -> None:
        self.folder = folder
        self.largest = largest

    def prepare(self) -> None:
        """Make the folder anew: what an earlier node left in it belongs to nobody.

        Raises:
            OSError: it cannot be made.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def reception(self) -> Reception:
        """Begin to take the files of one call."""
        return Reception(self.folder, self.largest)

    def holds(self, file: FileOnDisk) -> bool:
        """Whether a file has arrived here."""
        return Path(file.path).parent == self.folder


class Reception:
    """The files of one call; a context manager, at whose end those are removed that nobody took."""

    def __init__(self, folder: Path, largest: int) -> None:
        self.largest = largest
        self._folder = folder
        self._left = largest
        self._writers: list[Writer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers:
            writer.discard()

    def open(self, name: str) -> Writer:
        """Begin a file.

        Raises:
            TooLarge: the call has too many files.
            Unavailable: the disk takes no more.
        """
        if len(self._writers) >= MOST_FILES:
            raise TooLarge(f"a call takes {MOST_FILES} files at most; put them into an archive")
        writer = Writer(self, self._folder / secrets.token_hex(16), name)
        self._writers.append(writer)
        return writer

    def take(self, size: int) -> None:
        """Count bytes of any of the files.

        Raises:
            TooLarge: they are more than a call may send.
        """
        self._left -= size
        if self._left < 0:
            raise TooLarge(
                f"the files of this call are larger than limits.upload = {format_size(self.largest)} together"
            )


class Writer:
    """A file that arrives in pieces. Its methods block on the disk."""

    def __init__(self, reception: Reception, path: Path, name: str) -> None:
        self._reception = reception
        self._path = path
        self._name = name
        self._hash = hashlib.sha256()
        self._size = 0
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unkept(error) from error
        self._file = open(fd, "wb")  # noqa: SIM115 - until `finish` or `discard`

    def write(self, data: bytes) -> None:
        """Add a piece.

        Raises:
            TooLarge: the call has sent more than it may.
            Unavailable: the disk takes no more.
        """
        self._reception.take(len(data))
        self._size += len(data)
        self._hash.update(data)
        try:
            failpoints.hit("uploads.write")
            self._file.write(data)
        except OSError as error:
            raise _unkept(error) from error

    def finish(self) -> FileOnDisk:
        """Give the whole file, once it is on disk.

        Raises:
            Unavailable: the disk takes no more.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _unkept(error) from error
        return FileOnDisk(name=self._name, path=str(self._path), size=self._size, sha256=self._hash.hexdigest())

    def discard(self) -> None:
        """Remove the file, unless somebody took it."""
        with suppress(OSError):  # what could not be flushed is removed
            self._file.close()
        self._path.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """Give the name under which a script finds a file: what the caller calls it, without folders and traps."""
    text = "".join(c if c.isprintable() and c != "\N{REPLACEMENT CHARACTER}" else "_" for c in name)
    text = text.encode(errors="replace").decode().replace("\\", "/").rpartition("/")[2].strip()
    text = "_" + text[1:] if text.startswith((".", "-", "~")) else text
    if len(text.encode()) > _LONGEST_NAME:
        stem, dot, suffix = text.rpartition(".")
        ending = dot + suffix if stem and len(suffix.encode()) <= _LONGEST_SUFFIX else ""
        kept = _LONGEST_NAME - len(ending.encode())
        text = text.removesuffix(ending).encode()[:kept].decode(errors="ignore") + ending
    return text or "file"


def checked_name(name: str) -> str:
    """Give a file's name as the caller may choose it.

    Raises:
        Invalid: it is too long to be one.
    """
    if len(name) > 4096:
        raise Invalid("a file's name is longer than 4096 characters")
    return safe_name(name)


def _unkept(error: OSError) -> ServiceError:
    if error.errno in _FULL:
        text = "the disk of the node is full: the file cannot be kept; it is taken again once there is room"
    else:
        text = f"the file cannot be kept: {error.strerror or error}"
    return Unavailable(text, retry_after=5.0)
