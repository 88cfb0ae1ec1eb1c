"""One of several HTTP processes in front of a node: a gateway on the sockets that the node handed over.

Started as `python -m remoterun_http.process`. Its terms come as a line of JSON on stdin, which stays open for as long
as the node lives; it writes a line to stdout once it answers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import msgspec
from msgspec import Struct

from remoterun.config import Limits, Loaded, NodeSettings
from remoterun.gateway import Gateway
from remoterun.logs import Log
from remoterun.quantities import Duration, Size
from remoterun.serving import serve_until_stopped
from remoterun.transport import Target
from remoterun_http import HttpSettings


class Terms(Struct, frozen=True):
    """What a process is told."""

    url: str  # of the node
    data: str  # its folder, where the browsers that are signed in are kept
    settings: HttpSettings
    max_request: int
    auth_timeout: float
    grace: float
    insecure_listen: bool
    log: Log


class Process(Gateway):
    """A gateway that ends with its node."""

    async def start(self) -> None:
        await super().start()
        asyncio.get_running_loop().add_reader(0, self._node_is_gone)

    def _node_is_gone(self) -> None:
        if not os.read(0, 65536):
            asyncio.get_running_loop().remove_reader(0)
            os.kill(os.getpid(), signal.SIGTERM)


def encode_terms(terms: Terms) -> bytes:
    """Encode the terms as a line."""
    return (
        msgspec.json.encode(terms, enc_hook=lambda value: int(value) if isinstance(value, int) else float(value))
        + b"\n"
    )


def decode_terms(line: bytes) -> Terms:
    """Decode the terms."""
    return msgspec.json.decode(line, type=Terms, dec_hook=lambda kind, value: kind(value))


def _first_line(fd: int) -> bytes:
    """Read up to a line's end and no further: what follows is for the event loop."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(fd, 1)):
        line += byte
    return line


def main() -> int:
    """Serve until the node, or a signal, says otherwise."""
    terms = decode_terms(_first_line(0))
    node = NodeSettings(
        data=terms.data,
        limits=Limits(request=Size(terms.max_request)),
        auth_timeout=Duration(terms.auth_timeout),
        grace=Duration(terms.grace),
        insecure_listen=terms.insecure_listen,
    )
    loaded = Loaded(node=node, sections={"http": terms.settings}, file=None, sources={})
    return serve_until_stopped(lambda: Process(loaded, Target(terms.url), ["http"]), terms.log)


if __name__ == "__main__":
    sys.exit(main())
