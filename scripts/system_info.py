"""Tell what machine this is and how busy it is: processors, memory, load, disk."""

# /// script
# requires-python = ">=3.11"
#
# [tool.remoterun]
# timeout = "10s"
# description = "Tell what machine this is and how busy it is"
# ///

import os
import platform
import shutil
import time
from pathlib import Path


def main() -> dict[str, object]:
    disk = shutil.disk_usage("/")
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "processors": {"present": os.cpu_count(), "usable": len(os.sched_getaffinity(0))},
        "load": dict(zip(("1m", "5m", "15m"), os.getloadavg(), strict=True)),
        "memory": memory(Path("/proc/meminfo").read_text()),
        "disk": {"total": disk.total, "free": disk.free},
        "uptime_seconds": int(time.clock_gettime(time.CLOCK_BOOTTIME)),
    }


def memory(meminfo: str) -> dict[str, int]:
    """Read the kernel's figures, which it gives in KiB, as bytes."""
    figures = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in meminfo.splitlines())}
    return {"total": figures["MemTotal"], "available": figures["MemAvailable"]}
