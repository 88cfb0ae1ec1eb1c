"""Pack folders into a tar.gz archive: everything, or what changed since the last archive.

    remoterun run backup -- --full /srv --to /var/backups

A plain script: it takes argv and ends with an exit code, and runs under `python backup.py` alike. Without --to the
archive is an artifact of the job. What cannot be read is named on stderr; the rest is packed, and the exit code is 1.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "6h"
# concurrency = 1
# description = "Pack folders into a tar.gz archive"
# ///

import argparse
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

NAME = re.compile(r"backup-(\d{8}T\d{6}\.\d{6}Z)-(full|incremental)\.tar\.gz")
TIME = "%Y%m%dT%H%M%S.%fZ"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="backup", description="Pack folders into a tar.gz archive.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="what to pack")
    parser.add_argument("--full", action="store_true", help="pack everything, not only what changed")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where the archive goes; without it: an artifact")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        if not folder.is_dir():
            parser.error(f"there is no folder {folder}")
    return arguments


def last_backup(target: Path) -> datetime | None:
    matches = (NAME.fullmatch(file.name) for file in target.iterdir())
    times = [datetime.strptime(match[1], TIME).replace(tzinfo=UTC) for match in matches if match]
    return max(times, default=None)


def find_files(folder: Path, target: Path, problems: list[str]) -> Iterator[Path]:
    """Give the tree's folders, files and links, without the folder that the archives go to."""
    for current, folders, names in os.walk(folder, onerror=lambda error: problems.append(str(error))):
        if Path(current) == target:
            folders.clear()
            continue
        yield Path(current)
        yield from (Path(current, name) for name in names)
        yield from (Path(current, name) for name in folders if Path(current, name).is_symlink())


def has_changed(path: Path, since: datetime) -> bool:
    try:
        status = path.lstat()
    except OSError:  # removed meanwhile
        return False
    # The change time too: a file moved here, or with a time of its own, is as new as its arrival.
    return max(status.st_mtime, status.st_ctime) >= since.timestamp()


def pack(folders: list[Path], archive: Path, since: datetime | None, problems: list[str]) -> int:
    count = 0
    with tarfile.open(archive, "x:gz", compresslevel=6) as tar:
        for folder in folders:
            for path in find_files(folder.resolve(), archive.parent, problems):
                if since is not None and not has_changed(path, since):
                    continue
                try:
                    tar.add(path, recursive=False)
                    count += path.is_symlink() or not path.is_dir()
                except OSError as error:
                    problems.append(str(error))
    return count


def main_program() -> int:
    arguments = parse_arguments()
    target = (arguments.to or Path(os.environ.get("REMOTERUN_ARTIFACTS", "."))).resolve()
    target.mkdir(parents=True, exist_ok=True)
    since = None if arguments.full else last_backup(target)
    kind = "full" if since is None else "incremental"
    archive = target / f"backup-{datetime.now(UTC).strftime(TIME)}-{kind}.tar.gz"
    draft = archive.with_suffix(".part")
    problems: list[str] = []
    try:
        count = pack(arguments.folders, draft, since, problems)
        draft.replace(archive)
    finally:
        draft.unlink(missing_ok=True)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(f"{kind} backup of {count} files: {archive} ({archive.stat().st_size} bytes)")
    leave_result({"archive": str(archive), "kind": kind, "files": count, "left_out": problems})
    return 1 if problems else 0


def leave_result(value: dict[str, object]) -> None:
    """Leave the job's result without any import: as JSON, in the file that the node names."""
    if "REMOTERUN_RESULT" in os.environ:
        Path(os.environ["REMOTERUN_RESULT"]).write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main_program())
