# /// script
# [tool.remoterun]
# timeout = "60s"
# files = 64
# file_size = "1MB"
# ///
"""Do one of the things that nobody should."""

from typing import Any

import _hogs


def main(what: str, **options: Any) -> Any:
    return getattr(_hogs, what)(**options)
