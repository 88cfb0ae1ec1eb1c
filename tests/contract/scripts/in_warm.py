# /// script
# [tool.remoterun]
# isolation = "warm"
# ///
import os

calls = 0


def main(times: int = 1) -> dict[str, int]:
    global calls
    calls += 1
    print(f"call {calls}")
    return {"pid": os.getpid(), "calls": calls, "times": times}
