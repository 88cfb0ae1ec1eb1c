import os
from pathlib import Path

from remoterun import script


def main(big: int = 0) -> None:
    script.artifact("plot.txt").write_text("a plot ✓")
    script.artifact("pages/1 of 2.html").write_text("<p>one</p>")
    script.artifact("empty").touch()
    script.artifact("big.bin").write_bytes(bytes(range(256)) * (big // 256))
    folder = Path(os.environ["REMOTERUN_ARTIFACTS"])
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "etc").symlink_to("/etc")
    os.mkfifo(folder / "fifo")
