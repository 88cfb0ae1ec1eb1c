"""What uv says becomes one line that tells an author what to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remoterun.environments.reason import LONGEST, explain

NEW = """\
Using script environment at: x/environment
error: No solution found when resolving dependencies
  cause: Because there is no version of six==99 and you require six==99, we can conclude that your requirements are \
unsatisfiable.
"""
OLD = """\
  × No solution found when resolving script dependencies:
  ╰─▶ Because there is no version of six==99 and you require
      six==99, we can conclude that your requirements are unsatisfiable.
"""
REFUSED = """\
error: Request failed after 3 retries in 12.4s
  cause: Failed to fetch: http://me:secret@127.0.0.1:9/simple/six/
  cause: Connection refused (os error 111)
"""
STALE = """\
Resolved 1 package in 103ms
error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided.

hint: To update the lockfile, run `uv lock`.
"""
BROKEN_LOCK = """\
error: Failed to parse `uv.lock`
  cause: TOML parse error at line 1, column 8
           |
         1 | garbage
           |        ^
         key with no value, expected `=`
"""
WARNED = "warning: Failed to inspect Python\n  cause: no matter\n\x1b[31merror\x1b[0m: it is broken\n"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            NEW,
            "No solution found when resolving dependencies: Because there is no version of six==99 and you require "
            "six==99, we can conclude that your requirements are unsatisfiable.",
        ),
        (
            OLD,
            "No solution found when resolving script dependencies: Because there is no version of six==99 and you "
            "require six==99, we can conclude that your requirements are unsatisfiable.",
        ),
        (
            REFUSED,
            "Request failed after 3 retries in 12.4s: Failed to fetch: http://…@127.0.0.1:9/simple/six/: Connection "
            "refused (os error 111)",
        ),
        (
            STALE,
            "hello.py.lock is out of date: it does not fit the script's dependencies; type: uv lock --script hello.py",
        ),
        (WARNED, "it is broken"),
        ("", "uv ended with exit code 2 and said nothing"),
    ],
)
def test_the_reason_is_uvs_own(said: str, reason: str) -> None:
    assert explain(said, "hello.py", 2) == reason


def test_a_lock_file_that_is_none_is_named() -> None:
    reason = explain(BROKEN_LOCK, "hello.py", 2)
    assert reason.startswith("hello.py.lock cannot be read; type: uv lock --script hello.py (Failed to parse")
    assert "expected `=`" in reason


@given(st.text())
def test_anything_becomes_one_line(said: str) -> None:
    reason = explain(said, "hello.py", 2)
    assert reason
    assert len(reason) <= LONGEST
    assert len(reason.splitlines()) == 1
