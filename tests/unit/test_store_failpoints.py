"""Failpoints do what their setting says, at the hits that it says."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from remoterun import failpoints


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    failpoints.configure("")


def failures(name: str, hits: int) -> list[int]:
    failed = []
    for number in range(1, hits + 1):
        try:
            failpoints.hit(name)
        except OSError:
            failed.append(number)
    return failed


@pytest.mark.parametrize(
    ("hits", "expected"), [("", [1, 2, 3, 4]), ("@3", [3]), ("@2+", [2, 3, 4]), ("@1+", [1, 2, 3, 4]), ("@9", [])]
)
def test_an_error_comes_at_its_hits(hits: str, expected: list[int]) -> None:
    failpoints.configure(f"store.begin=error:ENOSPC{hits}")
    assert failures("store.begin", 4) == expected


def test_each_name_counts_for_itself_and_others_do_nothing() -> None:
    failpoints.configure("store.begin=error:EIO@2, store.before_commit=sleep:0@1")
    assert failures("store.after_commit", 2) == []
    assert failures("store.before_commit", 2) == []
    assert failures("store.begin", 3) == [2]


def test_the_error_has_its_number() -> None:
    failpoints.configure("store.begin=error:EDQUOT")
    with pytest.raises(OSError, match=r"failpoint store\.begin") as raised:
        failpoints.hit("store.begin")
    assert raised.value.errno == errno.EDQUOT


def test_an_empty_setting_clears() -> None:
    failpoints.configure("store.begin=error:EIO")
    failpoints.configure("")
    assert failures("store.begin", 2) == []


@pytest.mark.parametrize(
    "setting",
    ["store.begin", "store.begin=", "store.begin=explode", "store.begin=error", "store.begin=error:NOPE", "x.y=kill"],
)
def test_a_setting_of_another_form_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=failpoints.VARIABLE):
        failpoints.configure(setting)


def test_the_environment_sets_them_and_kill_kills() -> None:
    program = "from remoterun import failpoints\nfor n in 'abc': print(n, flush=True); failpoints.hit('store.begin')"
    environment = {**os.environ, failpoints.VARIABLE: "store.begin=kill@2"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL
    assert run.stdout == "a\nb\n"
