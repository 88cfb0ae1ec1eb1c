"""The table of deployments is measured and written down; how fast is nobody's business here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployments.fronts import FRONTS

COMMAND = Path(__file__).parents[1] / "benchmarks" / "bench_deployments.py"


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(COMMAND), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_it_has_a_row_for_every_front() -> None:
    done = _bench("--list")

    assert done.returncode == 0, done.stderr
    rows = [line.split(maxsplit=1)[0] for line in done.stdout.splitlines()]
    assert rows[-len(FRONTS) :] == [kind.folder for kind in FRONTS]
    assert len({*rows}) == len(rows)


def test_rows_are_measured_and_written_down(tmp_path: Path) -> None:
    if os.environ.get("CI") != "true" and any(shutil.which(name) is None for name in ("wrk", "uwsgi_python3")):
        pytest.skip("wrk or uWSGI is not installed; make test, as root, installs what is missing")
    done = _bench("uwsgi-2", "echo", "gunicorn-gevent", "--quick", "--json", str(tmp_path / "found.json"))

    assert done.returncode == 0, done.stderr
    assert "| nginx + gunicorn, gevent, TLS |" in done.stdout
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["key"] for row in rows] == ["uwsgi-2", "echo", "gunicorn-gevent"]
    for row in rows:
        assert row["missing"] is None
        assert row["rounds"][0]["rate"] > 0
        assert row["rounds"][0]["errors"] == 0


def test_a_row_that_is_none_is_refused() -> None:
    done = _bench("nothing")

    assert done.returncode == 2
    assert "there is no row nothing" in done.stderr
