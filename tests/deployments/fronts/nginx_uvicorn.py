"""nginx before HTTP processes of a gateway: `deploy/nginx-uvicorn`."""

from __future__ import annotations

from signal import SIGHUP
from typing import ClassVar

from tests.deployments.front import DATA, Front, Place, exec_start, free_port, shipped
from tests.deployments.nginx import Nginx
from tests.deployments.programs import Program, answers, children, eventually
from tests.deployments.python import VENV

_WORD = "remoterun_http.process"  # in the command line of each process
_UP = ": gateway to "  # it says once all of them answer


class NginxUvicorn(Front):
    """nginx, TLS, and `remoterun gateway` with several processes."""

    name: ClassVar[str] = "nginx + uvicorn"
    folder: ClassVar[str] = "nginx-uvicorn"
    programs: ClassVar[tuple[str, ...]] = ("nginx",)
    is_tls: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        behind = f"127.0.0.1:{free_port()}"
        self._nginx = Nginx(place, "nginx-uvicorn/remoterun.conf", {"127.0.0.1:8001": behind})
        config = place.folder / "http.toml"
        settings = {
            DATA: str(place.data),
            "127.0.0.1:8001": behind,
            "processes = 2": f"processes = {place.processes}",
            'hosts = ["scripts.example.com"]': 'hosts = ["scripts.example.com", "localhost"]',
        }
        config.write_text(shipped("nginx-uvicorn/http.toml", settings))
        places = {"/opt/remoterun": str(VENV), "/etc/remoterun/http.toml": str(config)}
        self._command = exec_start("nginx-uvicorn/remoterun-http.service", places)
        self._running: list[Program] = []

    @property
    def port(self) -> int:
        return self._nginx.port

    def start(self) -> None:
        gateway = Program(self._command, self.place.folder / "gateway.log")
        self._running.append(gateway)
        said = gateway.text().count(_UP)
        eventually(lambda: gateway.text().count(_UP) > said, "all its HTTP processes answer", self._running)
        self._running.append(self._nginx.start())
        eventually(lambda: answers(self.url, self.trust()), "it answers", self._running)

    def stop(self) -> None:
        while self._running:
            self._running.pop().stop()

    def reload(self) -> None:
        gateway, old, count = self._running[0], self._processes(), self._reloads()
        gateway.signal(SIGHUP)
        eventually(lambda: self._reloads() > count, "its log says that it reloaded", self._running)
        new = self._processes()
        assert len(new) == self.place.processes
        assert not old & new

    def _reloads(self) -> int:
        return self._running[0].log.read_text().count(": reloaded")

    def _processes(self) -> set[int]:
        return children(self._running[0].pid, _WORD)
