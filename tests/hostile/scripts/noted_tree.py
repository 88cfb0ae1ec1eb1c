"""Note the start, and have processes of every kind below when the node dies."""

import os
import signal
import subprocess
import time

from _journal import note


def main(journal: str, work: float = 0.5) -> None:
    note(journal)
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    time.sleep(work)
