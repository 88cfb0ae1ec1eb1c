"""Greet someone, in an interpreter started for this call."""

# /// script
# [tool.remoterun]
# isolation = "spawn"
# ///


def main(name: str) -> dict[str, str]:
    return {"hello": name}
