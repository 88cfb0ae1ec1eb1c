"""nginx before uWSGI: `deploy/nginx-uwsgi`."""

from __future__ import annotations

import os
from typing import ClassVar

from tests.deployments.front import DATA, Front, Place, exec_start, shipped
from tests.deployments.nginx import Nginx
from tests.deployments.programs import Program, answers, children, eventually
from tests.deployments.python import debian_venv


class NginxUwsgi(Front):
    """nginx, TLS, and `remoterun_http.wsgi:application` under uWSGI."""

    name: ClassVar[str] = "nginx + uWSGI"
    folder: ClassVar[str] = "nginx-uwsgi"
    programs: ClassVar[tuple[str, ...]] = ("nginx", "uwsgi", "uwsgi_python3")
    is_tls: ClassVar[bool] = True
    protocol: ClassVar[str] = "uwsgi"  # by which the shipped files are named

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        folder, word = place.folder, self.protocol
        socket = {f"/run/remoterun-{word}/{word}.sock": f"{folder}/{word}.sock"}
        self._nginx = Nginx(place, f"{self.folder}/remoterun.conf", socket)
        self._reload = folder / "uwsgi.reload"
        replacements = {
            **socket,
            DATA: str(place.data),
            "/opt/remoterun": str(debian_venv(folder)),
            f"/run/remoterun-{word}/reload": str(self._reload),
            "REMOTERUN_HTTP_HOSTS=scripts.example.com": 'REMOTERUN_HTTP_HOSTS=["scripts.example.com","localhost"]',
            "processes = 2": f"processes = {place.processes}",
            "worker-reload-mercy = 60": "worker-reload-mercy = 3",
            "listen = 1024": "listen = 100",  # as much as any kernel takes
        }
        file = folder / "uwsgi.ini"
        file.write_text(shipped(f"{self.folder}/uwsgi.ini", replacements))
        unit = f"{self.folder}/remoterun-{word}.service"
        self._command = exec_start(unit, {f"/etc/remoterun/{word}.ini": str(file)})
        self._running: list[Program] = []

    @property
    def port(self) -> int:
        return self._nginx.port

    def start(self) -> None:
        self._reload.touch()
        uwsgi = Program(self._command, self.place.folder / "uwsgi.log")
        self._running.append(uwsgi)
        self._running.append(self._nginx.start())
        eventually(lambda: answers(self.url, self.trust()), "it answers", self._running)

    def stop(self) -> None:
        while self._running:
            self._running.pop().stop()

    def reload(self) -> None:
        uwsgi = self._running[0]
        old, done = children(uwsgi.pid, "uwsgi"), self._reloads()
        later = self._reload.stat().st_mtime + 1  # it looks at whole seconds
        os.utime(self._reload, (later, later))
        eventually(lambda: self._reloads() > done, "its log says that the reload is complete", self._running)
        new = children(uwsgi.pid, "uwsgi")
        assert len(new) == self.place.processes
        assert not old & new

    def _reloads(self) -> int:
        return self._running[0].log.read_text(errors="replace").count("chain reloading complete")
