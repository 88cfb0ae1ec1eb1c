"""Greet someone: the smallest script there is.

Args:
    name: who is greeted.
"""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# isolation = "warm"
# description = "Greet someone"
# ///


def main(name: str) -> dict[str, str]:
    return {"hello": name}
