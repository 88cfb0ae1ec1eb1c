# /// script
# [tool.remoterun]
# retries = 2
# retry_delay = "10ms"
# ///
from remoterun import script


def main(good_at: int) -> int:
    attempt = script.job().attempt
    print(f"attempt {attempt}")
    if attempt < good_at:
        raise RuntimeError(f"attempt {attempt} fails")
    return attempt
