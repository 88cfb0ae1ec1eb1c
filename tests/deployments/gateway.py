"""The HTTP processes of `deploy/nginx-uvicorn`, which stand behind Apache as behind nginx."""

from __future__ import annotations

from signal import SIGHUP

from tests.deployments.front import DATA, Place, exec_start, free_port, shipped
from tests.deployments.programs import Program, children, eventually
from tests.deployments.python import VENV

_WORD = "remoterun_http.process"  # in the command line of each process
_UP = ": gateway to "  # it says once all of them answer


class Gateway:
    """`remoterun gateway` with several processes, as the shipped unit starts it.

    Parameters:
        place: where the front stands.
    """

    def __init__(self, place: Place) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._count = place.processes
        config = place.folder / "http.toml"
        settings = {
            DATA: str(place.data),
            "127.0.0.1:8001": self.address,
            "processes = 2": f"processes = {place.processes}",
            'hosts = ["scripts.example.com"]': 'hosts = ["scripts.example.com", "localhost"]',
        }
        config.write_text(shipped("nginx-uvicorn/http.toml", settings))
        places = {"/opt/remoterun": str(VENV), "/etc/remoterun/http.toml": str(config)}
        self._command = exec_start("nginx-uvicorn/remoterun-http.service", places)
        self._log = place.folder / "gateway.log"

    def start(self) -> Program:
        """Start it, and return once all of its processes answer."""
        program = Program(self._command, self._log)
        said = program.text().count(_UP)
        eventually(lambda: program.text().count(_UP) > said, "all its HTTP processes answer", [program])
        return program

    def reload(self, program: Program) -> None:
        """Replace its processes, and return once that is done."""
        old, said = children(program.pid, _WORD), self._reloads()
        program.signal(SIGHUP)
        eventually(lambda: self._reloads() > said, "its log says that it reloaded", [program])
        new = children(program.pid, _WORD)
        assert len(new) == self._count
        assert not old & new

    def _reloads(self) -> int:
        return self._log.read_text().count(": reloaded")
