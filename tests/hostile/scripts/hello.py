# /// script
# [tool.remoterun]
# isolation = "warm"
# ///
"""Greet."""


def main(name: str = "world") -> dict[str, str]:
    return {"hello": name}
