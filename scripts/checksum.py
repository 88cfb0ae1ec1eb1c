"""Compute the checksum of a file, or of every file under a folder.

The artifact CHECKSUMS is what `sha256sum --check` reads. For a folder the answer also has one checksum of all of them:
equal trees, equal checksum, whatever the order on the disk.

Args:
    path: a file, or a folder.
    algorithm: which checksum.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "2h"
# concurrency = 2
# description = "Compute checksums of files"
# ///

import hashlib
from pathlib import Path
from typing import Literal

from remoterun import script

Algorithm = Literal["sha256", "sha512", "blake2b", "sha1", "md5"]


def main(path: Path, algorithm: Literal["sha256", "sha512", "blake2b", "sha1", "md5"] = "sha256") -> dict[str, object]:
    files = find_files(path)
    base = path if path.is_dir() else path.parent
    lines = []
    size = 0
    for file in script.track(files, message="reading"):
        lines.append(f"{file_checksum(file, algorithm)}  {file.relative_to(base).as_posix()}\n")
        size += file.stat().st_size
    text = "".join(lines).encode("utf-8", "surrogateescape")
    script.artifact("CHECKSUMS").write_bytes(text)
    digest = hashlib.new(algorithm, text).hexdigest() if path.is_dir() else lines[0].partition(" ")[0]
    return {"path": str(path), "algorithm": algorithm, "checksum": digest, "files": len(files), "bytes": size}


def find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"there is no file or folder {path}")
    files = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def file_checksum(file: Path, algorithm: Algorithm) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest()
