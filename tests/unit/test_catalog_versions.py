"""Copies of versions are kept while a job can be of them, and no longer."""

from __future__ import annotations

import os
import time
from pathlib import Path

from remoterun.catalog.versions import Versions

DAY = 86400.0


def test_prune_removes_what_was_last_current_long_ago(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    current, replaced, old = (versions.keep(text) for text in (b"1", b"2", b"3"))
    versions.keep_notes(old, b"{}")
    for path in (versions.source(current), versions.source(old), tmp_path / f"{old}.json"):
        os.utime(path, (0, 0))

    versions.prune({current}, time.time() - DAY)

    assert versions.load(old) is None
    assert versions.load_notes(old) is None
    assert versions.load(replaced) == b"2"
    assert versions.load(current) == b"1"


def test_prune_notes_what_is_current_so_that_its_age_counts_from_its_replacement(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    version = versions.keep(b"1")
    os.utime(versions.source(version), (0, 0))

    versions.prune({version}, time.time() - DAY)
    versions.prune(set(), time.time() - DAY)

    assert versions.load(version) == b"1"
