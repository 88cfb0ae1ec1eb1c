"""nginx before gunicorn with gevent workers: `deploy/gunicorn-gevent`."""

from __future__ import annotations

import re
from signal import SIGHUP
from typing import ClassVar

from tests.deployments.front import DATA, Front, Place, exec_start, free_port, shipped
from tests.deployments.nginx import Nginx
from tests.deployments.programs import Program, answers, children, eventually
from tests.deployments.python import VENV


class GunicornGevent(Front):
    """nginx, TLS, and the WSGI application in greenlets."""

    name: ClassVar[str] = "nginx + gunicorn, gevent"
    folder: ClassVar[str] = "gunicorn-gevent"
    programs: ClassVar[tuple[str, ...]] = ("nginx",)
    is_tls: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        behind = f"127.0.0.1:{free_port()}"
        self._nginx = Nginx(place, "nginx-uvicorn/remoterun.conf", {"127.0.0.1:8001": behind})
        self._running: list[Program] = []
        settings = place.folder / "http.toml"
        hosts = {'hosts = ["scripts.example.com"]': 'hosts = ["scripts.example.com", "localhost"]'}
        settings.write_text(shipped("gunicorn-gevent/http.toml", {DATA: str(place.data), **hosts}))
        config = place.folder / "gunicorn.conf.py"
        here = {
            "127.0.0.1:8001": behind,
            "workers = 2": f"workers = {place.processes}",
            "graceful_timeout = 10": "graceful_timeout = 2",  # for streams: nobody waits for them here
        }
        config.write_text(shipped("gunicorn-gevent/gunicorn.conf.py", here))
        places = {
            "/opt/remoterun": str(VENV),
            "/etc/remoterun/http.toml": str(settings),
            "/etc/remoterun/gunicorn.conf.py": str(config),
        }
        self._command = exec_start(_UNIT, places)
        self._environment = dict(re.findall(r"^Environment=(.*?)=(.*)$", shipped(_UNIT, places), re.MULTILINE))

    @property
    def port(self) -> int:
        return self._nginx.port

    def start(self) -> None:
        self._running.append(Program(self._command, self.place.folder / "gunicorn.log", self._environment))
        self._running.append(self._nginx.start())
        eventually(lambda: answers(self.url, self.trust()), "it answers", self._running)

    def stop(self) -> None:
        while self._running:
            self._running.pop().stop()

    def reload(self) -> None:
        old = self._workers()
        self._running[0].signal(SIGHUP)
        eventually(lambda: self._are_new(old), "its workers are new", self._running)

    def _are_new(self, old: set[int]) -> bool:
        workers = self._workers()
        return len(workers) == self.place.processes and not old & workers

    def _workers(self) -> set[int]:
        return children(self._running[0].pid, "gunicorn")


_UNIT = "gunicorn-gevent/remoterun-gunicorn.service"
