"""A front: servers that stand before a node's HTTP, run from the files in `deploy/` on free loopback ports.

Tests and benchmarks share these. Each front of `FRONTS` (in `fronts/`) starts the real programs with the shipped files;
only addresses, paths, users and numbers of processes are replaced, and each replacement must be found in the file.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

DEPLOY = Path(__file__).parents[2] / "deploy"

NAME = "scripts.example.com"  # the host that the shipped files serve
DATA = "/srv/remoterun/.remoterun"  # the node's data folder in them
LARGEST = 16 * 2**20  # bytes of a request that they let through


@dataclass(frozen=True, slots=True)
class Place:
    """Where a front stands.

    `folder` is its own, for files, sockets and logs (`*.log`, all of them); `node` the URL of the Unix socket of the
    node behind it; `certificate` and `key` are PEM files for localhost and NAME; `processes` is how many answer.
    """

    folder: Path
    node: str
    certificate: Path
    key: Path
    processes: int = 2

    @property
    def data(self) -> Path:
        """The data folder of the node."""
        return Path(self.node.removeprefix("unix://")).parent


class Front(ABC):
    """Servers before a node.

    Parameters:
        place: where it stands.
    """

    name: ClassVar[str]  # as in the table of deployments: "nginx + uvicorn"
    folder: ClassVar[str]  # below deploy/
    programs: ClassVar[tuple[str, ...]]  # what must be installed
    is_tls: ClassVar[bool] = False  # its `url` is https://localhost:port, with the place's certificate
    rolls: ClassVar[bool] = True  # `reload` under load fails no request; if not, its page says why

    def __init__(self, place: Place) -> None:
        self.place = place

    @property
    @abstractmethod
    def port(self) -> int:
        """The loopback port that callers use."""

    @abstractmethod
    def start(self) -> None:
        """Start everything, and return once it answers /livez.

        Raises:
            AssertionError: something ended or does not answer; the text holds its log.
        """

    @abstractmethod
    def stop(self) -> None:
        """Stop everything that was started; also after a start that failed halfway."""

    @abstractmethod
    def reload(self) -> None:
        """Replace the processes that answer by new ones, as its page says, and return once that is done."""

    def restart(self) -> None:
        """Stop everything, and start it again on the same port."""
        self.stop()
        self.start()

    @property
    def url(self) -> str:
        """The URL that callers use."""
        return f"https://localhost:{self.port}" if self.is_tls else f"http://127.0.0.1:{self.port}"

    def trust(self) -> ssl.SSLContext | bool:
        """Give what an HTTP client verifies this front's certificate with."""
        return ssl.create_default_context(cafile=self.place.certificate) if self.is_tls else True

    def log(self) -> str:
        """Give all that its programs have logged."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.place.folder.rglob("*.log")))

    @classmethod
    def missing(cls) -> str:
        """Say which of its programs are not installed; nothing where all are."""
        return ", ".join(name for name in cls.programs if shutil.which(name, path=_PATH) is None)


_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))  # Debian's servers are there


def program(name: str) -> str:
    """Give the path of an installed program.

    Raises:
        AssertionError: it is not installed.
    """
    path = shutil.which(name, path=_PATH)
    assert path is not None, f"{name} is not installed"
    return path


def shipped(path: str, replacements: Mapping[str, str]) -> str:
    """Give a shipped file's text with other addresses, paths and users.

    Parameters:
        path: below deploy/.
        replacements: texts by what stands in the file.

    Raises:
        AssertionError: the file does not hold one of them.
    """
    text = (DEPLOY / path).read_text()
    for old, new in replacements.items():
        assert old in text, f"deploy/{path} does not hold {old!r}"
        text = text.replace(old, new)
    return text


def exec_start(path: str, replacements: Mapping[str, str]) -> list[str]:
    """Give the command that a shipped unit of systemd's starts, with other addresses and paths.

    Parameters:
        path: below deploy/.
        replacements: as of `shipped`.

    Raises:
        AssertionError: the unit starts nothing, or does not hold one of them.
    """
    found = re.search(r"^ExecStart=(.*)$", shipped(path, replacements), re.MULTILINE)
    assert found is not None, f"deploy/{path} has no ExecStart"
    return shlex.split(found[1])


def free_port() -> int:
    """Give a port of the loopback interface that nothing listens on, and that the system hands to nobody by itself.

    A front that restarts needs its port again; those above 32767 may be a client's meanwhile.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
