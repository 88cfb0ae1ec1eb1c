"""Tell what takes the space under a folder: its largest subfolders and files.

Counts what the disk really holds: sparse files by their blocks, a file with several names once. Stays on
one file system and follows no links. What cannot be read is listed and left out.

Args:
    path: the folder.
    top: how many folders and files to name, 1 to 100.
    max_entries: stop after this many files and folders; the answer then says that it is incomplete.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "15m"
# concurrency = 2
# description = "Tell what takes the space under a folder"
# ///

import heapq
import os
from collections.abc import Iterator
from pathlib import Path

from remoterun import script


def main(path: Path, top: int = 10, max_entries: int = 2_000_000) -> dict[str, object]:
    if not 1 <= top <= 100:
        raise ValueError(f"top is 1 to 100, not {top}")
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}")
    tree = Tree(path.resolve())
    for count, (folder, entry) in enumerate(tree.walk()):
        if count >= max_entries:
            tree.is_complete = False
            break
        tree.add(folder, entry)
        if count % 1000 == 0:
            script.progress(count, message=folder)
    return tree.report(top)


class Tree:
    """Sizes of one tree, in bytes on the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[str, int] = {str(root): 0}  # each with all below it
        self.files: list[tuple[int, str]] = []
        self.unreadable: list[str] = []
        self.count = 0
        self.is_complete = True
        self._device = root.stat().st_dev
        self._linked: set[int] = set()

    def walk(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        waiting = [str(self.root)]
        while waiting:
            folder = waiting.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError:
                self.unreadable.append(folder)
                continue
            for entry in entries:
                yield folder, entry
                if entry.is_dir(follow_symlinks=False) and entry.path in self.folders:
                    waiting.append(entry.path)

    def add(self, folder: str, entry: os.DirEntry[str]) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # removed meanwhile
            return
        if status.st_dev != self._device or status.st_ino in self._linked:
            return
        size = status.st_blocks * 512  # POSIX counts blocks of 512 bytes, whatever the file system's are
        if entry.is_dir(follow_symlinks=False):
            self.folders[entry.path] = 0
        else:
            self.count += 1
            if status.st_nlink > 1:
                self._linked.add(status.st_ino)
            heapq.heappush(self.files, (size, entry.path))
            if len(self.files) > 100:
                heapq.heappop(self.files)
        self._charge(folder, size)

    def _charge(self, folder: str, size: int) -> None:
        while folder in self.folders:
            self.folders[folder] += size
            folder = os.path.dirname(folder)  # noqa: PTH120 - a million Path objects take seconds

    def report(self, top: int) -> dict[str, object]:
        below = ((size, folder) for folder, size in self.folders.items() if folder != str(self.root))
        return {
            "path": str(self.root),
            "bytes": self.folders[str(self.root)],
            "files": self.count,
            "folders": len(self.folders) - 1,
            "complete": self.is_complete,
            "largest_folders": self._name(heapq.nlargest(top, below)),
            "largest_files": self._name(heapq.nlargest(top, self.files)),
            "unreadable": self.unreadable[:top],
        }

    def _name(self, sizes: list[tuple[int, str]]) -> list[dict[str, object]]:
        return [{"path": os.path.relpath(path, self.root), "bytes": size} for size, path in sizes]
