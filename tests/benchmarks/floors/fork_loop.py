"""Fork, exit, wait, one after another: `fork_loop.py COUNT` prints how many a second."""

import os
import sys
import time

count = int(sys.argv[1])
began = time.perf_counter()
for _ in range(count):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
print(count / (time.perf_counter() - began))
