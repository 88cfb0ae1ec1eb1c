"""Who stands in the table: bare servers as yardsticks, the node itself, and every front of `deploy/`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deployments.wrk import Taken, Wrk
from measure import MeasureError
from place import FLOORS, Place, tool, wait_for_port
from tests.deployments.certificate import write_certificate
from tests.deployments.front import Front
from tests.deployments.front import Place as Standing
from tests.deployments.fronts import FRONTS

Kind = Literal["yardstick", "ours"]

YARDSTICK = "uWSGI, 2 processes of 8 threads, connections kept"
ECHO = "FastAPI, bare echo, 1 process of uvicorn"

_PATH, _BODY = "/run/hello", {"name": "Ada"}


@dataclass(eq=False)
class Contender:
    """A row.

    Parameters:
        key: by which it is chosen on the command line.
        name: as the table has it.
        open: starts it in a place, and gives what loads it.
    """

    key: str
    name: str
    kind: Kind
    open: Callable[[Place], Wrk]
    taken: list[Taken] = field(default_factory=list)
    missing: str = ""  # why there is nothing to show
    _load: Wrk | None = None

    def start(self, place: Place) -> None:
        """Start it; where that cannot be, keep why."""
        try:
            self._load = self.open(place)
        except (MeasureError, OSError, AssertionError) as error:
            self.missing = (str(error).splitlines() or [type(error).__name__])[0]

    def measure(self, seconds: int) -> None:
        """Measure it once more; where that fails, keep why."""
        if self._load is None:
            return
        try:
            self.taken.append(self._load.run(seconds))
        except (MeasureError, OSError) as error:
            self.missing, self._load = str(error), None
            self.taken.clear()

    def median(self, of: Callable[[Taken], float]) -> float | None:
        """Give the median of the rounds; None where there is none."""
        return statistics.median(map(of, self.taken)) if self.taken else None

    @property
    def rate(self) -> float | None:
        """Calls a second."""
        return self.median(lambda taken: taken.rate)

    @property
    def errors(self) -> int:
        """What failed, in all rounds."""
        return sum(taken.errors for taken in self.taken)


def contenders() -> list[Contender]:
    """Give all of them, in the order of the table."""
    return [
        Contender("uwsgi-1", "uWSGI, 1 process, a connection for each call", "yardstick", _uwsgi(_CLOSING)),
        Contender("uwsgi-2", YARDSTICK, "yardstick", _uwsgi(["--http11-socket", "{at}", "-p", "2", "--threads", "8"])),
        Contender(
            "uwsgi-16",
            "uWSGI, 16 processes, one for each kept connection",
            "yardstick",
            _uwsgi(["--http11-socket", "{at}", "-p", "16"]),
        ),
        Contender("echo", ECHO, "yardstick", _echo),
        Contender("node", "the node itself", "ours", _node({})),
        Contender("processes", "the node, `--http-processes 2`", "ours", _node({"HTTP_PROCESSES": "2"})),
        *(Contender(kind.folder, _named(kind), "ours", _front(kind)) for kind in FRONTS),
    ]


_CLOSING = ["--http-socket", "{at}", "-p", "1", "--add-header", "Connection: close"]


def _named(kind: type[Front]) -> str:
    return f"{kind.name}, TLS" if kind.is_tls else kind.name


def _uwsgi(options: Sequence[str]) -> Callable[[Place], Wrk]:
    def start(place: Place) -> Wrk:
        port = place.free_port()
        bare = ["--plugin", "python3", "--master", "--die-on-term", "--disable-logging", "--listen", "100"]
        own = [option.format(at=f"127.0.0.1:{port}") for option in options]
        place.start([tool("uwsgi"), *bare, "--wsgi-file", str(FLOORS / "wsgi_hello.py"), *own])
        wait_for_port(port)
        return Wrk(place.folder / f"uwsgi-{port}.lua", f"http://127.0.0.1:{port}/")

    return start


def _echo(place: Place) -> Wrk:
    return Wrk(place.folder / "echo.lua", f"http://127.0.0.1:{place.serve('fastapi_echo.py')}{_PATH}", _BODY)


def _node(settings: dict[str, str]) -> Callable[[Place], Wrk]:
    def start(place: Place) -> Wrk:
        node = place.node(settings=settings)
        return Wrk(place.folder / f"node-{node.pid}.lua", f"http://127.0.0.1:{node.http}{_PATH}", _BODY, node.token)

    return start


def _front(kind: type[Front]) -> Callable[[Place], Wrk]:
    def start(place: Place) -> Wrk:
        if missing := kind.missing():
            raise MeasureError(f"{missing} is not installed")
        node = place.node(settings={"HTTP_ENABLED": "false"})
        own = place.folder / kind.folder
        own.mkdir()
        front = kind(Standing(own, f"unix://{node.data}/remoterun.sock", *write_certificate(own)))
        place.defer(front.stop)
        front.start()
        return Wrk(own / "load.lua", f"{front.url}{_PATH}", _BODY, node.token)

    return start
