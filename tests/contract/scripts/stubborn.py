"""Ignore SIGTERM, and have a child that left the process group."""

import os
import signal
import subprocess
import time
from pathlib import Path


def main(pids: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    draft = Path(f"{pids}.part")
    draft.write_text(f"{os.getpid()} {child.pid}")
    draft.rename(pids)
    print("waiting", flush=True)
    time.sleep(600)
