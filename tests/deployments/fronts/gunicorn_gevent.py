"""gunicorn with gevent workers, which callers reach directly: `deploy/gunicorn-gevent`."""

from __future__ import annotations

import re
import shlex
import signal
from typing import ClassVar

from tests.deployments.front import DATA, Front, Place, free_port, shipped
from tests.deployments.programs import Program, answers, children, eventually
from tests.deployments.python import VENV


class GunicornGevent(Front):
    """gunicorn, TLS, and the WSGI application in greenlets."""

    name: ClassVar[str] = "gunicorn + gevent"
    folder: ClassVar[str] = "gunicorn-gevent"
    programs: ClassVar[tuple[str, ...]] = ()  # of the environment that tests run in
    is_tls: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._port = free_port()
        self._program: Program | None = None
        settings = place.folder / "http.toml"
        hosts = {'hosts = ["scripts.example.com"]': 'hosts = ["scripts.example.com", "localhost"]'}
        settings.write_text(shipped("gunicorn-gevent/http.toml", {DATA: str(place.data), **hosts}))
        config = place.folder / "gunicorn.conf.py"
        here = {
            '"0.0.0.0:443", "[::]:443"': f'"127.0.0.1:{self._port}"',
            "/etc/remoterun/tls/fullchain.pem": str(place.certificate),
            "/etc/remoterun/tls/privkey.pem": str(place.key),
            "workers = 2": f"workers = {place.processes}",
            "graceful_timeout = 10": "graceful_timeout = 2",  # for streams: nobody waits for them here
        }
        config.write_text(shipped("gunicorn-gevent/gunicorn.conf.py", here))
        places = {
            "/opt/remoterun": str(VENV),
            "/etc/remoterun/http.toml": str(settings),
            "/etc/remoterun/gunicorn.conf.py": str(config),
        }
        unit = dict(re.findall(r"^(ExecStart|Environment)=(.*)$", shipped(_UNIT, places), re.MULTILINE))
        self._command = shlex.split(unit["ExecStart"])
        self._environment = dict([unit["Environment"].split("=", 1)])

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        self._program = Program(self._command, self.place.folder / "gunicorn.log", self._environment)
        eventually(lambda: answers(self.url, self.trust()), "it answers", [self._program])

    def stop(self) -> None:
        if self._program is not None:
            self._program.stop()

    def reload(self) -> None:
        old = self._workers()
        self._running().signal(signal.SIGHUP)
        eventually(lambda: self._are_new(old), "its workers are new", [self._running()])

    def _are_new(self, old: set[int]) -> bool:
        workers = self._workers()
        return len(workers) == self.place.processes and not old & workers

    def _workers(self) -> set[int]:
        return children(self._running().pid, "gunicorn")

    def _running(self) -> Program:
        assert self._program is not None, "it was not started"
        return self._program


_UNIT = "gunicorn-gevent/remoterun-gunicorn.service"
