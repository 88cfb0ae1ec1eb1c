"""A gateway in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_PATIENCE = 30.0


@contextlib.contextmanager
def running_gateway(url: str, folder: Path, token: str = "") -> Iterator[str]:
    """Run a gateway to a node, and give its URL."""
    ready = folder / "gateway.json"
    command = [sys.executable, "-m", "remoterun", "gateway", "--to", url, "--listen", "127.0.0.1:0"]
    env = {**os.environ, "REMOTERUN_TOKEN": token}
    process = subprocess.Popen([*command, "--ready-file", str(ready)], cwd=folder, env=env)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not ready.exists():
            assert process.poll() is None, "the gateway ended"
            assert time.monotonic() < deadline, "the gateway does not answer"
            time.sleep(0.02)
        yield json.loads(ready.read_bytes())["http"][0]
    finally:
        process.terminate()
        assert process.wait(_PATIENCE) == 0
