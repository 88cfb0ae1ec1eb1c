"""Files that callers sent along, kept with their jobs: one folder a job, in it each file under its SHA-256.

A file is whole and on disk before its job is recorded; a folder whose job was never recorded is removed at the next
start. Nobody writes to a kept file: a script gets a copy of its own, and a rerun links to the same bytes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from remoterun import failpoints
from remoterun.errors import NotFound, Unavailable
from remoterun.incoming import Incoming, Reception, checked_name
from remoterun.messages import FileOnDisk, JobRequest, UploadedFile
from remoterun.places import Place, path_of
from remoterun.store.interface import KeptFile

_PIECE = 2**20  # bytes


class Kept(NamedTuple):
    """The files of a job that is about to be admitted."""

    job_id: str
    files: tuple[KeptFile, ...]


class Uploads:
    """The kept files of all jobs.

    Parameters:
        folder: gets one folder for each job that has files.
        incoming: where they arrive, on the same file system.
    """

    def __init__(self, folder: Path, incoming: Incoming) -> None:
        self.folder = folder
        self._incoming = incoming

    @asynccontextmanager
    async def received(self, request: JobRequest) -> AsyncIterator[JobRequest]:
        """Have every file of a request on disk, with its hash, for as long as the context lasts.

        Raises:
            TooLarge: they are more than a call may send.
            Unavailable: the disk takes no more.
            NotFound: a file is gone.
        """
        if not request.files:
            yield request
            return
        with self._incoming.reception() as reception:
            files = await asyncio.to_thread(self._receive, reception, request.files)
            yield msgspec.structs.replace(request, files=files)

    def _receive(self, reception: Reception, files: Mapping[str, UploadedFile]) -> dict[str, UploadedFile]:
        return {path: self._on_disk(reception, file) for path, file in files.items()}

    def _on_disk(self, reception: Reception, file: UploadedFile) -> FileOnDisk:
        if isinstance(file, FileOnDisk) and file.sha256 and (self._incoming.holds(file) or self._keeps(file)):
            reception.take(file.size)
            return file
        writer = reception.open(file.name)
        if not isinstance(file, FileOnDisk):
            writer.write(file.data)
            return writer.finish()
        try:
            with open(file.path, "rb") as source:
                while piece := source.read(_PIECE):
                    writer.write(piece)
        except OSError as error:
            raise NotFound(f"the file {file.path} cannot be read: {error.strerror}") from error
        return writer.finish()

    def _keeps(self, file: FileOnDisk) -> bool:
        return Path(file.path).parent.parent == self.folder

    async def keep(self, job_id: str, files: Mapping[Place, UploadedFile]) -> tuple[KeptFile, ...]:
        """Take files that have been received into a job's folder; they are durable then.

        Raises:
            Unavailable: the disk takes no more.
            NotFound: a file is gone, as an older job's may be.
        """
        return await asyncio.to_thread(self._keep, job_id, files)

    def _keep(self, job_id: str, files: Mapping[Place, UploadedFile]) -> tuple[KeptFile, ...]:
        home = self.folder / job_id
        kept: list[KeptFile] = []
        try:
            home.mkdir(mode=0o700)
            for place, file in files.items():
                assert isinstance(file, FileOnDisk)
                self._take(file, home / file.sha256)
                name = checked_name(file.name)
                kept.append(KeptFile(place=place, name=name, size=file.size, sha256=file.sha256))
            _sync(home)
            _sync(self.folder)
            failpoints.hit("uploads.kept")
        except FileNotFoundError as error:
            self.remove([job_id])
            raise NotFound("a file of this call is no longer kept; send it anew") from error
        except OSError as error:
            self.remove([job_id])
            raise Unavailable(f"the files cannot be kept: {error.strerror or error}", retry_after=5.0) from error
        return tuple(kept)

    def _take(self, file: FileOnDisk, target: Path) -> None:
        if self._incoming.holds(file):
            os.rename(file.path, target)  # noqa: PTH104 - it is a text
        elif not target.exists():
            self._link(file.path, target)

    def _link(self, source: str, target: Path) -> None:
        """Have an older job's file in another one's folder, too: its bytes never change."""
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links, or a file that has as many as it can
            shutil.copyfile(source, target)
            with open(target, "rb") as copied:
                os.fsync(copied.fileno())

    def path(self, job_id: str, file: KeptFile) -> Path:
        """Give where a job's file is kept."""
        return self.folder / job_id / file.sha256

    def again(self, job_id: str, files: Sequence[KeptFile]) -> dict[str, UploadedFile]:
        """Give a job's files as those of a new request."""
        return {
            path_of(file.place): FileOnDisk(
                name=file.name, path=str(self.path(job_id, file)), size=file.size, sha256=file.sha256
            )
            for file in files
        }

    def remove(self, job_ids: Iterable[str]) -> None:
        """Remove the files of jobs that are no longer kept, or never were."""
        for job_id in job_ids:
            shutil.rmtree(self.folder / job_id, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that keeps names by other means
            raise
    finally:
        os.close(fd)
