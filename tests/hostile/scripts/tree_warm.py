# /// script
# [tool.remoterun]
# isolation = "warm"
# timeout = "20s"
# ///
"""Start a tree of processes that do not want to end."""

import _trees


def main(kind: str, pids: str, ends: bool = False) -> None:
    _trees.grow(kind, pids, ends)
