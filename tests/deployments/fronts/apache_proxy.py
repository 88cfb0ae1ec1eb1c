"""Apache before HTTP processes of a gateway: `deploy/apache-proxy`."""

from __future__ import annotations

from typing import ClassVar

from tests.deployments.apache import Apache
from tests.deployments.front import Front, Place
from tests.deployments.gateway import Gateway
from tests.deployments.programs import Program, answers, eventually


class ApacheProxy(Front):
    """Apache, TLS, and `remoterun gateway` with several processes."""

    name: ClassVar[str] = "Apache + uvicorn"
    folder: ClassVar[str] = "apache-proxy"
    programs: ClassVar[tuple[str, ...]] = ("apache2",)
    is_tls: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._gateway = Gateway(place)
        self._apache = Apache(place, "apache-proxy/remoterun.conf", {"127.0.0.1:8001": self._gateway.address})
        self._running: list[Program] = []

    @property
    def port(self) -> int:
        return self._apache.port

    def start(self) -> None:
        self._running.append(self._gateway.start())
        self._running.append(self._apache.start())
        eventually(lambda: answers(self.url, self.trust()), "it answers", self._running)

    def stop(self) -> None:
        while self._running:
            self._running.pop(0).stop()  # the gateway ends streams; Apache would wait for them before it cuts them off

    def stop_gateway(self) -> None:
        """Stop what stands behind Apache."""
        self._running[0].stop()

    def reload(self) -> None:
        self._gateway.reload(self._running[0])
