"""The benchmarks run, and say what they measured; how fast is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_memory_is_measured_and_written_down(tmp_path: Path) -> None:
    done = _bench("memory", "--rounds", "2", "--markdown", "--json", str(tmp_path / "found.json"))

    assert done.returncode == 0, done.stderr
    assert "| memory: idle node, whole tree (PSS) |" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    node = found["rows"][0]["measured"]
    assert node["missing"] or len(node["rounds"]) == 2
    assert node["missing"] or node["median"] > 1


@pytest.mark.parametrize("subject", ["rpc", "zeromq"])
def test_a_library_is_measured_beside_its_own_echo(subject: str, tmp_path: Path) -> None:
    done = _bench(subject, "--rounds", "1", "--json", str(tmp_path / "found.json"))

    assert done.returncode == 0, done.stderr
    for row in json.loads((tmp_path / "found.json").read_text())["rows"]:
        for figure in (row["measured"], *row["floors"]):
            assert figure["median"], figure


def test_a_subject_that_is_none_is_refused() -> None:
    done = _bench("nothing")

    assert done.returncode == 2
    assert "there is no subject nothing" in done.stderr
