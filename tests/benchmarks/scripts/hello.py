"""Greet someone, in a process that has done it before."""

# /// script
# [tool.remoterun]
# isolation = "warm"
# ///


def main(name: str) -> dict[str, str]:
    return {"hello": name}
