"""nginx before several processes that supervisor keeps: `deploy/supervisor-nginx`."""

from __future__ import annotations

from typing import ClassVar

from tests.deployments.front import Front, Place, free_port
from tests.deployments.nginx import Nginx
from tests.deployments.programs import Program, answers, eventually
from tests.deployments.supervisor import Supervisor, write_settings


class SupervisorNginx(Front):
    """nginx, TLS, and processes of `remoterun gateway` on one socket of supervisor's."""

    name: ClassVar[str] = "supervisor, many processes, nginx"
    folder: ClassVar[str] = "supervisor-nginx"
    programs: ClassVar[tuple[str, ...]] = ("nginx", "supervisord")
    is_tls: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        behind = f"127.0.0.1:{free_port()}"
        self._nginx = Nginx(place, "supervisor-nginx/remoterun.conf", {"127.0.0.1:8001": behind})
        hosts = {'hosts = ["scripts.example.com"]': 'hosts = ["scripts.example.com", "localhost"]'}
        settings = write_settings(place, "http.toml", hosts)
        replacements = {
            "127.0.0.1:8001": behind,
            "/etc/remoterun/http.toml": str(settings),
            "numprocs=2": f"numprocs={place.processes}",
        }
        self.supervisor = Supervisor(place, {"http.conf": replacements})
        self.names = [f"remoterun-http:remoterun-http-{n}" for n in range(place.processes)]
        self._running: list[Program] = []

    @property
    def port(self) -> int:
        return self._nginx.port

    def start(self) -> None:
        self._running.append(self.supervisor.start())
        self._running.append(self._nginx.start())
        eventually(lambda: answers(self.url, self.trust()), "it answers", self._running)

    def stop(self) -> None:
        while self._running:
            self._running.pop().stop()

    def reload(self) -> None:
        for name in self.names:
            old = self.supervisor.pid(name)
            said = self.supervisor.control("restart", name)
            assert f"{name}: started" in said, said
            assert self.supervisor.pid(name) != old
