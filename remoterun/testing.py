"""A real node in a fixture, for the tests of scripts and of programs that call them.

    from remoterun.testing import running_node

    def test_report(tmp_path):
        with running_node(Path("scripts"), workers=2) as node, node.connect() as client:
            assert client.run("report", day="2026-11-01") == {"rows": 3}

The node is a process of its own, on free ports of the loopback interface, with a data folder that is removed
afterwards. What its own environment says about remoterun (`REMOTERUN_*`) does not reach it.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from remoterun.access import Tokens
from remoterun.client import Node as Client
from remoterun.client import open_session
from remoterun.errors import Invalid, RemoterunError
from remoterun.local import TOKEN_NAME
from remoterun.service import Credential, Peer, Token
from remoterun.transport import Target, installed

if TYPE_CHECKING:
    from remoterun.node import Node

__all__ = ["NodeDidNotStart", "RunningNode", "dispatcher_node", "running_node"]

_START = 20.0  # seconds
_STOP = 30.0  # seconds, beyond the node's own grace
_LOOK_EVERY = 0.01  # seconds between two looks for the ready file
_RUN = "import sys; from remoterun.cli import main; sys.exit(main())"


class NodeDidNotStart(RemoterunError):
    """The node ended, or was not ready in time; the text holds its log.

    Parameters:
        exit_code: of its process, or None where it still ran.
        log: what it wrote.
    """

    def __init__(self, reason: str, exit_code: int | None, log: str) -> None:
        super().__init__(f"{reason}; it wrote:\n{log}")
        self.exit_code = exit_code
        self.log = log


@contextmanager
def running_node(
    scripts: Path | str | Sequence[Path | str],
    *,
    data: Path | None = None,
    env: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[RunningNode]:
    """Run a node for the time of a `with` block.

    Parameters:
        scripts: its folder of scripts, or several.
        data: its data folder, which stays; by default a fresh one, which is removed.
        env: variables of its environment, besides this process's own.
        settings: its settings by their names in `remoterun.toml`, sections as dictionaries:
            `workers=2, limits={"request": 1000}, http={"enabled": False}`. Addresses to listen on are free
            ports of the loopback interface unless they are given here.

    Raises:
        NodeDidNotStart: it is not ready within 20 seconds; the text holds its log.
    """
    with tempfile.TemporaryDirectory(prefix="remoterun-", ignore_cleanup_errors=True) as folder:
        node = RunningNode(_folders(scripts), Path(folder), data or Path(folder, "data"), env or {}, settings)
        try:
            node.start()
            yield node
        finally:
            node.close()


class RunningNode:
    """A `remoterun serve` process, as `running_node` gives it.

    `urls` has the address of each scheme (`tcp`, `unix`, `http`), `token` is the first token, which may do
    everything, `data` the data folder, `process` the node's process, `ready_file` what it wrote once it answered.
    """

    def __init__(
        self,
        scripts: Sequence[Path],
        folder: Path,
        data: Path,
        env: Mapping[str, str],
        settings: Mapping[str, Any],
    ) -> None:
        self.data = data
        self.urls: Mapping[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._scripts = scripts
        self.ready_file = folder / "ready.json"
        self._log = folder / "node.log"
        self._config = folder / "remoterun.toml"
        self._config.write_text(_toml({**_free_ports(settings), "data": str(data.absolute())}))
        self._env = {**_own_environment(), **env}
        self._names = itertools.count(1)

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self.process is not None, "the node was not started"
        return self.process.pid

    @property
    def token(self) -> str:
        """The token that the node made when it first started."""
        return (self.data / TOKEN_NAME).read_text().strip()

    def start(self) -> None:
        """Start the process and wait until every transport answers.

        Raises:
            NodeDidNotStart: it ended, or is not ready within 20 seconds.
        """
        self.ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-c", _RUN, "serve", *map(str, self._scripts)]
        command += ["--config", str(self._config), "--ready-file", str(self.ready_file)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, start_new_session=True
            )
        deadline = time.monotonic() + _START
        while not self.ready_file.exists():
            if self.process.poll() is not None:
                code = self.process.returncode
                raise NodeDidNotStart(f"the node ended with exit code {code}", code, self.log())
            if time.monotonic() > deadline:
                raise NodeDidNotStart(f"the node was not ready within {_START:g} s", None, self.log())
            time.sleep(_LOOK_EVERY)
        self.urls = _urls(json.loads(self.ready_file.read_bytes()))

    def connect(self, scheme: str = "unix", token: str | None = None, *, timeout: float = 10.0) -> Client:
        """Connect to the node; close what is given, or use it in a `with` block.

        Parameters:
            scheme: of the transport.
            token: by default the first token; over the Unix socket, this process's user.
            timeout: seconds, as for `remoterun.connect`.

        Raises:
            Invalid: the node has no such transport.
            ServiceError: the node cannot be reached, or refuses the token.
        """
        if scheme not in self.urls:
            raise Invalid(f"this node has no {scheme}://; it has {', '.join(sorted(self.urls))}")
        credential: Credential
        if token is None and scheme == "unix":
            credential = Peer(os.getuid(), os.getgid(), os.getpid())
        else:
            credential = Token(self.token if token is None else token)
        return Client(*open_session(Target(self.urls[scheme], timeout=timeout), credential))

    def new_token(self, scopes: Sequence[str], *, name: str | None = None, expires: float | None = None) -> str:
        """Make a token, which works at once.

        Parameters:
            scopes: what it may do.
            name: its principal's; by default a new one.
            expires: seconds from now; by default never.
        """
        return Tokens(self.data).new(name or f"test-{next(self._names)}", scopes, expires)

    def revoke_token(self, name: str) -> None:
        """Make a token worthless within a second."""
        Tokens(self.data).revoke(name)

    def log(self) -> str:
        """Give what the node wrote to stdout and stderr, over all of its starts."""
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask the node to stop (SIGTERM), without waiting for it."""
        assert self.process is not None, "the node was not started"
        self.process.terminate()

    def stop(self) -> int:
        """Ask the node to stop (SIGTERM) and give its exit code once it has."""
        assert self.process is not None, "the node was not started"
        self.terminate()
        return self.process.wait(_STOP)

    def kill(self) -> None:
        """Kill the node (SIGKILL)."""
        assert self.process is not None, "the node was not started"
        self.process.kill()
        self.process.wait(_STOP)

    def restart(self) -> None:
        """Stop the node unless it has ended, and start it again on the same data; ports change."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        self.start()

    def close(self) -> None:
        """Stop the node, by force where it does not stop by itself."""
        if self.process is None or self.process.poll() is not None:
            return
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()


@asynccontextmanager
async def dispatcher_node(scripts: Path | str, *, data: Path, **settings: Any) -> AsyncIterator[Node]:
    """Run a node in this process and without transports: its `dispatcher` is the service to call.

    Parameters:
        scripts: its folder of scripts.
        data: its data folder.
        settings: as for `running_node`.

    Raises:
        RemoterunError: it cannot start.
    """
    from remoterun.config import load
    from remoterun.node import Node

    sections = {transport.name: transport.settings for transport in installed().values()}
    off = {name: {"enabled": False} for name in sections}
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(_toml({**settings, **off, "data": str(data), "scripts": [str(scripts)]}))
        config.flush()
        node = Node(load(flags={}, env={}, file=Path(config.name), sections=sections))
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


def _folders(scripts: Path | str | Sequence[Path | str]) -> list[Path]:
    several = [scripts] if isinstance(scripts, (str, Path)) else scripts
    return [Path(folder).absolute() for folder in several]


def _own_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REMOTERUN_")}


def _free_ports(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Add free loopback ports for every transport's addresses that the settings do not name."""
    result = dict(settings)
    for transport in installed().values():
        free = {
            field.encode_name: ["127.0.0.1:0"]
            for field in msgspec.structs.fields(transport.settings)
            if _is_addresses(field.default)
        }
        result[transport.name] = {**free, **settings.get(transport.name, {})}
    return result


def _is_addresses(default: object) -> bool:
    return (
        isinstance(default, tuple)
        and bool(default)
        and all(isinstance(item, str) and item.rpartition(":")[2].isdigit() for item in default)
    )


def _toml(settings: Mapping[str, Any], prefix: str = "") -> str:
    """Write settings as TOML, one dotted key a line; JSON's texts, numbers and arrays are TOML's too."""
    lines = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            lines.append(_toml(value, f"{prefix}{name}."))
        else:
            lines.append(f"{prefix}{name} = {json.dumps(value, ensure_ascii=False)}\n")
    return "".join(lines)


def _urls(ready: Mapping[str, Any]) -> dict[str, str]:
    """Give the first address of each scheme."""
    urls: dict[str, str] = {}
    for addresses in ready.values():
        for address in [addresses] if isinstance(addresses, str) else addresses if isinstance(addresses, list) else ():
            scheme, separator, _ = str(address).partition("://")
            if separator:
                urls.setdefault(scheme, str(address))
    return urls
