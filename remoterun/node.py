"""A node: dispatcher, workers, store and transports put together, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

from remoterun import __version__
from remoterun.access import Access, Tokens, write_private
from remoterun.backup import DATABASE, Backups
from remoterun.catalog import Catalog
from remoterun.config import Loaded
from remoterun.dispatcher import Dispatcher
from remoterun.environments import EnvironmentFolder, Environments
from remoterun.errors import ConfigError
from remoterun.incoming import Incoming
from remoterun.logs import Log, present
from remoterun.sealing import Seal
from remoterun.secretfile import load_secrets
from remoterun.serving import Server, serve_until_stopped
from remoterun.store.sqlite import SqliteStore
from remoterun.tracing import Tracer
from remoterun.transport import ServerContext, ServerHalf, installed, reload_all
from remoterun.uploads import Uploads
from remoterun.workers import system
from remoterun.workers.pool import WorkerPool
from remoterun.workers.server import ServerOptions

_LOCK_WAIT = 10.0  # seconds that fork servers of a node that died have for killing what it ran
_LAST_SPANS = 1.0  # seconds that a stopping node gives a collector
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ")  # what every job sees of the environment


class Node(Server):
    """One node.

    Parameters:
        loaded: its settings, from flags, environment and file.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.settings = loaded.node
        self.sections = loaded.sections
        self.data = Path(self.settings.data)
        self.name = self.settings.name or socket.gethostname()
        self.addresses: dict[str, tuple[str, ...]] = {}
        self._lock = -1
        self._is_ready = False
        self._halves: list[ServerHalf] = []

    async def start(self) -> None:
        system.become_subreaper()
        system.become_undumpable()
        _raise_open_files()
        _make_private(self.data)
        self._lock = await _lock(self.data)
        tokens = Tokens(self.data)
        self.first_token = _first_token(tokens, self.data)
        settings = self.settings
        workers = settings.workers or 2 * (os.cpu_count() or 1)
        self.incoming = Incoming(self.data / "uploads" / "incoming", settings.limits.upload)
        self.incoming.prepare()
        self.store = SqliteStore(self.data / DATABASE)
        self.environments = Environments(
            EnvironmentFolder(Path(settings.environments.folder or self.data / "environments")), settings.environments
        )
        self.catalog = Catalog(
            [Path(folder) for folder in settings.scripts],
            self.data / "versions",
            settings.limits,
            os.environ,
            environments=self.environments,
            secrets=load_secrets(settings.secrets),
        )
        self.catalog.on_change.append(self.environments.build_ahead)
        self.pool = WorkerPool(
            ServerOptions(
                python=sys.executable,
                folder=_fresh_folder(self.data / "run"),
                environment=_job_environment(),
                ahead=min(workers, os.cpu_count() or 1),
                inherited=(self._lock,),
            ),
            settings.limits,
            self.data / "artifacts",
        )
        tracer = self._tracer()
        self.dispatcher = Dispatcher(
            settings,
            name=self.name,
            version=__version__,
            workers=workers,
            access=Access(tokens, settings.principals),
            catalog=self.catalog,
            environments=self.environments,
            pool=self.pool,
            store=self.store,
            artifacts=self.data / "artifacts",
            uploads=Uploads(self.data / "uploads", self.incoming),
            backups=Backups(self.data, settings.backup, self.store),
            seal=Seal(self.data / "secret.key"),
        )
        self.dispatcher.tracer = tracer
        await self.store.open()
        await self.environments.start()
        await self.catalog.start()
        await self.pool.start()
        await self.dispatcher.start()
        await self._start_transports()
        self.dispatcher.addresses = self.addresses
        self.dispatcher.brokers = self._brokers
        self.dispatcher.connections = self._connections
        self.dispatcher.certificates = self._certificates
        self._is_ready = True

    async def _start_transports(self) -> None:
        context = ServerContext(
            service=self.dispatcher,
            data=self.data,
            max_request=self.settings.limits.request,
            incoming=self.incoming,
            auth_timeout=self.settings.auth_timeout,
            insecure_listen=self.settings.insecure_listen,
            is_ready=lambda: self._is_ready and self.store.fault is None,
            addresses=lambda: self.addresses,
        )
        # The socket first: what other transports run in processes of their own reaches the node over it.
        for name, transport in sorted(installed().items(), key=lambda item: item[0] != "socket"):
            section = self.sections[name]
            if section.enabled:
                half = transport.server(context, section)
                self.addresses.update(await half.start())
                self._halves.append(half)

    def _welcome(self) -> dict[str, str]:
        """Give what the transports say to whoever starts the node, beyond their addresses."""
        return {word: text for half in self._halves for word, text in half.welcome().items()}

    def _brokers(self) -> dict[str, str]:
        return {name: state for half in self._halves for name, state in half.brokers().items()}

    def _tracer(self) -> Tracer | None:
        """Make what traces jobs, where that is wanted: its libraries are imported only then."""
        settings = self.settings.tracing
        if not settings.endpoint:
            return None
        try:
            from remoterun.otel import OtlpSink
        except ImportError as error:
            raise ConfigError(
                f"tracing.endpoint is set and {error.name} is missing. Install it with: pip install 'remoterun[otel]'"
            ) from error
        sink = OtlpSink(settings.endpoint, settings.service, self.name)
        return Tracer(sink, settings.ratio, self._brokers)

    def _connections(self) -> dict[str, int]:
        return {name: count for half in self._halves for name, count in half.connections().items()}

    def _certificates(self) -> dict[str, str]:
        return {name: path for half in self._halves for name, path in half.certificates().items()}

    async def stop(self) -> None:
        # No new calls, running jobs get the grace, answers go out, everything is recorded.
        self._is_ready = False
        if hasattr(self, "dispatcher"):
            await self.dispatcher.stop(self.settings.grace)
            await self.environments.stop()
            await asyncio.gather(*(half.stop(0.5) for half in self._halves), return_exceptions=True)
            await self.pool.stop()
            await self.catalog.stop()
            await self.store.close()
            if self.dispatcher.tracer is not None:
                await asyncio.to_thread(self.dispatcher.tracer.close, _LAST_SPANS)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def reload(self) -> None:
        await reload_all(self._halves)

    def ready_value(self) -> dict[str, Any]:
        return {"node": self.name, **super().ready_value()}

    def announcement(self) -> str:
        scripts = self.catalog.list()
        count = "1 script" if len(scripts) == 1 else f"{len(scripts)} scripts"
        lines = [f"remoterun {__version__}: {count}, data in {self.data}"]
        for name, addresses in self.addresses.items():
            lines.extend(f"  {name:<8} {address}" for address in addresses)
        if present().format == "text":  # a sign-in code is for who started the node, not for what collects logs
            lines.extend(f"  {word:<8} {text}" for word, text in self._welcome().items())
        if self.first_token is not None:
            lines.append(f"  token    {self.first_token}")
        is_hello_there = any(script.name == "hello" for script in scripts)
        lines.append("try: remoterun ls" + ("    remoterun run hello name=Ada" if is_hello_there else ""))
        return "\n".join(lines)


def _raise_open_files() -> None:
    """Allow as many connections as the system does; jobs get their own limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _make_private(data: Path) -> None:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data.stat().st_uid == os.geteuid():
            data.chmod(0o700)
        if not os.access(data, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise ConfigError(
            f"the data folder {data} cannot be used: {error.strerror}; choose another with --data"
        ) from error


async def _lock(data: Path) -> int:
    """Lock the data folder; fork servers share the lock, so it is free once a dead node's jobs are dead too."""
    try:
        fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{data / 'lock'} cannot be opened: {error.strerror}") from error
    deadline = asyncio.get_running_loop().time() + _LOCK_WAIT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            if (holder.isdigit() and not system.is_zombie(int(holder))) or asyncio.get_running_loop().time() > deadline:
                os.close(fd)
                raise ConfigError(
                    f"another node (process {holder or '?'}) uses the data folder {data};"
                    " stop it, or choose another folder with --data"
                ) from None
            await asyncio.sleep(0.02)
        else:
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
            return fd


def _first_token(tokens: Tokens, data: Path) -> Path | None:
    """Make the first start's token, and keep it where its owner finds it."""
    path = data / "token"
    if tokens.read() or path.exists():
        return path if path.exists() else None
    write_private(path, tokens.new("first", ["admin"]).encode() + b"\n")
    return path


def _fresh_folder(parent: Path) -> Path:
    """Give an empty folder for jobs, and remove what earlier nodes left there."""
    import shutil

    shutil.rmtree(parent, ignore_errors=True)
    folder = parent / str(os.getpid())
    folder.mkdir(parents=True, mode=0o700)
    return folder


def _job_environment() -> dict[str, str]:
    """Build what every job sees of our environment: from nothing."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    environment.setdefault("LANG", "C.UTF-8")
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def serve(loaded: Loaded, ready_file: Path | None = None) -> int:
    """Run a node until it is told to stop; give the exit code."""
    settings = loaded.node
    log = Log(settings.log_level, settings.log_format, settings.name or socket.gethostname())
    return serve_until_stopped(lambda: Node(loaded), log, ready_file)
