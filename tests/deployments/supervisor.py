"""supervisor with shipped files, as one tests it: its own main file around them, everything in one folder."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.deployments.front import DATA, Place, program, shipped
from tests.deployments.programs import PATIENCE, Program, eventually
from tests.deployments.python import VENV

_MAIN = """
[unix_http_server]
file={folder}/supervisor.sock
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/supervisor.sock
[include]
files = {folder}/programs/*.conf
"""


class Supervisor:
    """A supervisord.

    Parameters:
        place: where it stands.
        files: the shipped files, below deploy/supervisor-nginx/, each with what is replaced in it.
    """

    def __init__(self, place: Place, files: Mapping[str, Mapping[str, str]]) -> None:
        self._folder = place.folder
        self._main = place.folder / "supervisord.conf"
        self._main.write_text(_MAIN.format(folder=place.folder))
        own = {
            "/opt/remoterun": str(VENV),
            "user=remoterun": f"user={getpass.getuser()}",
            "directory=/srv/remoterun": f"directory={place.folder}",
            "/var/log/supervisor": str(place.folder),
        }
        (place.folder / "programs").mkdir(exist_ok=True)
        for name, replacements in files.items():
            text = shipped(f"supervisor-nginx/{name}", {**own, **replacements})
            (place.folder / "programs" / name).write_text(text)

    def start(self) -> Program:
        """Start it, and wait until every program of it runs."""
        running = Program([program("supervisord"), "-c", str(self._main)], self._folder / "supervisord.output.log")
        eventually(lambda: set(self.states().values()) == {"RUNNING"}, "its programs run", [running])
        return running

    def states(self) -> dict[str, str]:
        """Give the state of each program."""
        lines = self.control("status").splitlines()
        return {words[0]: words[1] for words in map(str.split, lines) if len(words) > 2 and ":" not in words[1]}

    def pid(self, name: str) -> int:
        """Give a program's process id."""
        return int(self.control("pid", name))

    def control(self, *words: str) -> str:
        """Run `supervisorctl`, and give what it says."""
        command = [program("supervisorctl"), "-c", str(self._main), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.stdout


def write_settings(place: Place, name: str, replacements: Mapping[str, str]) -> Path:
    """Write a shipped file of settings for a place, and give its path."""
    path = place.folder / name
    path.write_text(shipped(f"supervisor-nginx/{name}", {DATA: str(place.data), **replacements}))
    return path
