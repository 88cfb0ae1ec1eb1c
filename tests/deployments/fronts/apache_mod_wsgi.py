"""Apache with mod_wsgi in daemon mode: `deploy/apache-mod-wsgi`."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import ClassVar

from tests.deployments.apache import Apache
from tests.deployments.front import DATA, Front, Place, shipped
from tests.deployments.programs import Program, answers, children, eventually
from tests.deployments.python import debian_venv

_USER = "user=remoterun group=remoterun "  # Apache is not root here, and its processes are its own user's
_WORD = "(wsgi:remoterun)"  # the command line of each process
_MODULE = Path("/usr/lib/apache2/modules/mod_wsgi.so")


class ApacheModWsgi(Front):
    """Apache, TLS, and the WSGI application in processes of mod_wsgi."""

    name: ClassVar[str] = "Apache + mod_wsgi"
    folder: ClassVar[str] = "apache-mod-wsgi"
    programs: ClassVar[tuple[str, ...]] = ("apache2",)
    is_tls: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        folder = place.folder
        script, settings = folder / "remoterun.wsgi", folder / "http.toml"
        script.write_text(shipped("apache-mod-wsgi/remoterun.wsgi", {"/etc/remoterun/http.toml": str(settings)}))
        hosts = {'hosts = ["scripts.example.com"]': 'hosts = ["scripts.example.com", "localhost"]'}
        settings.write_text(shipped("apache-mod-wsgi/http.toml", {DATA: str(place.data), **hosts}))
        own = {
            _USER: "",
            "processes=2": f"processes={place.processes}",
            "shutdown-timeout=10": "shutdown-timeout=2",  # for streams: nobody waits for them here
            "python-home=/opt/remoterun": f"python-home={debian_venv(folder)}",
            "home=/srv/remoterun": f"home={folder}",
            "/etc/remoterun/remoterun.wsgi": str(script),
            "<Directory /etc/remoterun>": f"<Directory {folder}>",
        }
        self._apache = Apache(place, "apache-mod-wsgi/remoterun.conf", own)
        self._program: Program | None = None

    @property
    def port(self) -> int:
        return self._apache.port

    @classmethod
    def missing(cls) -> str:
        return super().missing() or ("" if _MODULE.exists() else "mod_wsgi")

    def start(self) -> None:
        self._program = self._apache.start()
        eventually(lambda: answers(self.url, self.trust()), "it answers", [self._program])

    def stop(self) -> None:
        if self._program is not None:
            self._program.stop()

    def reload(self) -> None:
        assert self._program is not None, "it was not started"
        for old in self.processes():
            os.kill(old, signal.SIGUSR1)
            eventually(partial(self._is_replaced, old), "a process is replaced", [self._program])

    def _is_replaced(self, old: int) -> bool:
        processes = self.processes()
        return len(processes) == self.place.processes and old not in processes

    def processes(self) -> set[int]:
        """Give the ids of mod_wsgi's processes."""
        assert self._program is not None, "it was not started"
        return children(self._program.pid, _WORD)
