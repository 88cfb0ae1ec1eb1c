"""nginx before HTTP processes of a gateway: `deploy/nginx-uvicorn`."""

from __future__ import annotations

from typing import ClassVar

from tests.deployments.front import Front, Place
from tests.deployments.gateway import Gateway
from tests.deployments.nginx import Nginx
from tests.deployments.programs import Program, answers, eventually


class NginxUvicorn(Front):
    """nginx, TLS, and `remoterun gateway` with several processes."""

    name: ClassVar[str] = "nginx + uvicorn"
    folder: ClassVar[str] = "nginx-uvicorn"
    programs: ClassVar[tuple[str, ...]] = ("nginx",)
    is_tls: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._gateway = Gateway(place)
        self._nginx = Nginx(place, "nginx-uvicorn/remoterun.conf", {"127.0.0.1:8001": self._gateway.address})
        self._running: list[Program] = []

    @property
    def port(self) -> int:
        return self._nginx.port

    def start(self) -> None:
        self._running.append(self._gateway.start())
        self._running.append(self._nginx.start())
        eventually(lambda: answers(self.url, self.trust()), "it answers", self._running)

    def stop(self) -> None:
        while self._running:
            self._running.pop().stop()

    def reload(self) -> None:
        self._gateway.reload(self._running[0])
