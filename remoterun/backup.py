"""Backups of a running node: each is a data folder on which a node can be started.

The database is copied while it is written to; what it refers to was on disk before it was recorded, so files are
taken after it, and nothing is removed meanwhile. Files that nobody writes to any more are linked where the file system
can: a backup in the data folder takes little room there, and is to be copied to another disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from remoterun.config import BackupSettings
from remoterun.errors import Conflict, ServiceError, Unavailable
from remoterun.messages import Backup, now
from remoterun.store.interface import Store

logger = logging.getLogger(__name__)

DATABASE = "remoterun.sqlite3"
_COPIED = ("tokens.json", "secret.key")  # small, and replaced while the node runs
_LINKED = ("artifacts", "uploads", "versions")
_PASSING = "incoming"  # in uploads: what has not arrived yet
_UNFINISHED = ".unfinished"
_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z")
_RETRY = 60.0  # seconds after a backup that failed


class Backups:
    """Makes backups, and removes old ones.

    Parameters:
        data: the node's data folder.
        settings: where they go, how often, how many are kept.
        store: gives the copy of the database.
    """

    def __init__(self, data: Path, settings: BackupSettings, store: Store) -> None:
        self.folder = Path(settings.folder or data / "backups")
        self.holding = asyncio.Lock()  # held while files are taken: nothing that a record refers to may be removed
        self._data = data
        self._settings = settings
        self._store = store
        self._making: asyncio.Task[Backup] | None = None
        self._stopping = False

    async def make(self) -> Backup:
        """Make a backup and give it once it is whole and on disk; it goes on though its caller goes.

        Raises:
            Conflict: one is being made.
            Unavailable: the disk takes no more, or cannot be written, or the node stops; what was begun is removed.
        """
        if self._making is not None:
            raise Conflict("a backup is being made; wait for its end")
        self._making = asyncio.create_task(self._make(), name="remoterun-backup")
        self._making.add_done_callback(self._made)
        return await asyncio.shield(self._making)

    async def stop(self) -> None:
        """Give up the backup that is being made."""
        self._stopping = True
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)

    def _made(self, task: asyncio.Task[Backup]) -> None:
        self._making = None
        if not task.cancelled():
            task.exception()  # the caller was told, or has gone

    async def _make(self) -> Backup:
        async with self.holding:
            taken = now()
            begun, whole = self.folder / _UNFINISHED, self.folder / _name(taken)
            try:
                await asyncio.to_thread(_prepare, self.folder, begun)
                await self._store.copy(begun / DATABASE)
                size, files = await asyncio.to_thread(self._take_files, begun)
                await asyncio.to_thread(_finish, begun, whole)
            except OSError as error:
                await asyncio.to_thread(shutil.rmtree, begun, ignore_errors=True)
                raise Unavailable(f"no backup into {self.folder}: {error.strerror or error}") from error
            except BaseException:
                shutil.rmtree(begun, ignore_errors=True)
                raise
            await asyncio.to_thread(self._remove_old)
        logger.info("made the backup %s", whole)
        return Backup(name=whole.name, path=str(whole), taken=taken, bytes=size, files=files)

    async def keep_making(self) -> None:
        """Make a backup whenever one is due, for ever; a failure is logged and tried again."""
        if not self._settings.every:
            return
        while True:
            await asyncio.sleep(max(0.0, self._newest() + self._settings.every - time.time()))
            try:
                await self.make()
            except ServiceError as error:
                logger.error("%s", error)
                await asyncio.sleep(min(_RETRY, self._settings.every))

    def _newest(self) -> float:
        """Give when the newest backup was made, Unix time; the beginning of time where there is none."""
        names = _made(self.folder)
        return _time_of(names[-1]) if names else 0.0

    def _take_files(self, folder: Path) -> tuple[int, int]:
        """Copy or link what the database refers to; give the bytes and the number of files of all of the backup."""
        size, files = (folder / DATABASE).stat().st_size, 1
        for source in self._sources():
            if self._stopping:
                raise Unavailable("the node stopped before the backup was whole", retry_after=5.0)
            target = folder / source.relative_to(self._data)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _take(source, target, link=source.name not in _COPIED)
                size += target.stat().st_size
            except FileNotFoundError:
                continue  # a file of a running job came and went
            files += 1
        return size, files

    def _sources(self) -> Iterator[Path]:
        for name in _COPIED:
            if (path := self._data / name).exists():
                yield path
        for name in _LINKED:
            for parent, folders, files in os.walk(self._data / name):
                if _PASSING in folders and Path(parent) == self._data / name:
                    folders.remove(_PASSING)
                yield from (Path(parent, file) for file in files)

    def _remove_old(self) -> None:
        for name in _made(self.folder)[: -self._settings.keep]:
            shutil.rmtree(self.folder / name, ignore_errors=True)


def _prepare(folder: Path, begun: Path) -> None:
    shutil.rmtree(begun, ignore_errors=True)  # a node that died had begun it
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    begun.mkdir(mode=0o700)


def _take(source: Path, target: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(source, target, follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links, or too many of them
            pass
        else:
            return
    shutil.copy2(source, target, follow_symlinks=False)
    if not target.is_symlink():
        _sync(target)


def _finish(begun: Path, whole: Path) -> None:
    """Have the names of all files on disk, as the files are, then give the backup its own: what has one is whole."""
    for parent, _, _ in os.walk(begun):
        _sync(Path(parent))
    begun.rename(whole)
    _sync(whole.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _made(folder: Path) -> list[str]:
    """Give the names of the whole backups, oldest first."""
    try:
        return sorted(filter(_NAME.fullmatch, os.listdir(folder)))  # noqa: PTH208 - their names are wanted
    except FileNotFoundError:
        return []


def _name(taken: datetime) -> str:
    return f"{taken:%Y%m%dT%H%M%S}.{taken.microsecond // 1000:03d}Z"


def _time_of(name: str) -> float:
    return datetime.strptime(name, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()
