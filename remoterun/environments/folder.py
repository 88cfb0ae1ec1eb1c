"""The folder of environments: where each is, whether it is whole, which of them are old.

KEY/                an environment; it appears whole, by a rename
KEY/remoterun.json  says that it is one, and of which key; its time is when it was last needed
KEY.lock            held by the process that builds or removes it
.part-KEY-…         what is being built; .old-KEY-…, what is being removed
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

MARKER = "remoterun.json"
_KEY = re.compile(r"[0-9a-f]{32}")
_SCRAP = re.compile(r"\.(?:part|old)-([0-9a-f]{32})-.*")
_LOCK = re.compile(r"([0-9a-f]{32})\.lock")


class EnvironmentFolder:
    """Environments by key; several nodes may share one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def prepare(self) -> None:
        """Make the folder, for us alone.

        Raises:
            OSError: it cannot be made.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def home(self, key: str) -> Path:
        """Give the place of an environment, whether it is there or not."""
        return self.path / key

    def python(self, key: str) -> Path:
        """Give the place of an environment's interpreter."""
        return self.path / key / "bin" / "python"

    def typed(self, key: str) -> Path:
        """Give the place of the modules that convert parameters, for scripts whose environment has none."""
        return self.path / key / "share" / "remoterun" / "typed"

    def is_built(self, key: str) -> bool:
        """Whether an environment is there, whole, with an interpreter that is still there, too."""
        try:
            marker = json.loads((self.home(key) / MARKER).read_bytes())
        except (OSError, ValueError):
            return False
        return isinstance(marker, dict) and marker.get("key") == key and self.python(key).exists()

    def touch(self, keys: Collection[str]) -> None:
        """Note that environments are needed."""
        for key in keys:
            with contextlib.suppress(OSError):
                os.utime(self.home(key) / MARKER)

    @contextlib.contextmanager
    def locked(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a key's lock; gives False where another has it and `wait` is not wanted.

        Whoever removes the lock file holds it: so once it is had, it must still be the one of that name.
        """
        path = self.path / f"{key}.lock"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    yield False
                    return
                if _is_same(fd, path):
                    yield True
                    return
            finally:
                os.close(fd)

    def set_aside(self, key: str) -> Path | None:
        """Move away what has an environment's name, with its lock held; give where it is now."""
        aside = self.path / f".old-{key}-{os.getpid()}-{time.monotonic_ns()}"
        try:
            self.home(key).rename(aside)
        except FileNotFoundError:
            return None
        return aside

    def scraps(self, key: str) -> list[Path]:
        """List what builds and removals of an environment left that did not come to their end."""
        return [
            entry for entry in self.path.iterdir() if (found := _SCRAP.fullmatch(entry.name)) and found.group(1) == key
        ]

    def prune(self, needed: Collection[str], before: float) -> list[str]:
        """Remove what was last needed before a time (seconds since the epoch), and the scraps of dead builds.

        Parameters:
            needed: the keys that are needed now; they are noted as such.
        """
        self.touch(needed)
        removed = []
        for key in sorted(self._keys()):
            with self.locked(key, wait=False) as is_ours:
                if not is_ours:
                    continue  # it is being built
                is_old = key not in needed and self._last_needed(key) < before
                if is_old and (aside := self.set_aside(key)) is not None:
                    removed.append(key)
                    remove(aside)
                for scrap in self.scraps(key):
                    remove(scrap)
                if not self.home(key).exists():
                    with contextlib.suppress(OSError):
                        (self.path / f"{key}.lock").unlink()
        return removed

    def _keys(self) -> set[str]:
        keys = set()
        for entry in self.path.iterdir():
            for pattern in (_SCRAP, _LOCK):
                if found := pattern.fullmatch(entry.name):
                    keys.add(found.group(1))
            if _KEY.fullmatch(entry.name):
                keys.add(entry.name)
        return keys

    def _last_needed(self, key: str) -> float:
        for path in (self.home(key) / MARKER, self.home(key)):
            with contextlib.suppress(OSError):
                return path.lstat().st_mtime
        return 0.0


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_same(fd: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
