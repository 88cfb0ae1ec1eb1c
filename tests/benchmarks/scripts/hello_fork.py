"""Greet someone, in a process forked for this call."""

# /// script
# [tool.remoterun]
# isolation = "fork"
# ///


def main(name: str) -> dict[str, str]:
    return {"hello": name}
