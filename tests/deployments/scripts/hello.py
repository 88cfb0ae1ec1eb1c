# /// script
# [tool.remoterun]
# isolation = "warm"
# ///
def main(name: str = "") -> dict[str, str]:
    return {"hello": name}
