"""An RPyC server whose method gives back the greeting: `rpyc_echo.py PORT`."""

import sys

import rpyc
from rpyc.utils.server import ThreadedServer


class Echo(rpyc.Service):  # type: ignore[misc] # RPyC has no types
    def exposed_run(self, script: str, name: str) -> str:
        return f'{{"hello":"{name}"}}'


if __name__ == "__main__":
    ThreadedServer(Echo, hostname="127.0.0.1", port=int(sys.argv[1])).start()
