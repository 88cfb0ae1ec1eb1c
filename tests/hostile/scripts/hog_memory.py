# /// script
# [tool.remoterun]
# timeout = "60s"
# memory = "64MB"
# ///
"""Do one of the things that nobody should."""

from typing import Any

import _hogs


def main(what: str, **options: Any) -> Any:
    return getattr(_hogs, what)(**options)
