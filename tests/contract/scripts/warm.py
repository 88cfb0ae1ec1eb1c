# /// script
# [tool.remoterun]
# isolation = "warm"
# timeout = "20s"
# ///
"""Do what a warm process has to bear, or is replaced for."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from remoterun import script


def main(do: str = "", n: int = 0) -> Any:
    if do == "raise":
        raise ValueError(f"call {n}")
    if do == "exit":
        sys.exit(n)
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "sleep":
        print("started", flush=True)
        time.sleep(60)
    if do == "artifact":
        script.artifact("n.txt").write_text(str(n))
        script.progress(n, 10, f"step {n}")
    if do == "litter":
        Path("litter").write_text("x")
    if do == "chdir":
        os.chdir("/")
    if do == "thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    if do == "child":
        subprocess.Popen(["sleep", "60"])
    if do == "stdin":
        return sys.stdin.read()
    if do == "look":
        return [sorted(os.listdir()), os.getcwd().endswith("/work"), threading.active_count()]  # noqa: PTH109, PTH208
    print(f"out {n}")
    print(f"err {n}", file=sys.stderr)
    job = script.job()
    return {"n": n, "job": job.id, "attempt": job.attempt, "trace": job.trace, "pid": os.getpid()}
