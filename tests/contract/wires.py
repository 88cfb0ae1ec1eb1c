"""The ways to a node that the contract suite takes: the dispatcher itself, and each transport's client half."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from remoterun.access import Tokens
from remoterun.messages import Event, JobRequest, OutputEvent, StateEvent
from remoterun.node import Node
from remoterun.service import AsyncService, AsyncSession, BlockingService, Credential, Origin, Service, Session, Token
from remoterun.testing import RunningNode, dispatcher_node, running_node
from remoterun.transport import Target, for_url
from tests.gateways import running_gateway

SCRIPTS = Path(__file__).parent / "scripts"

DISPATCHER = "dispatcher"
GATEWAY = "gateway"  # HTTP in front of the node's Unix socket
WIRES = (DISPATCHER, "tcp", "unix", "http", "rpyc", "zmq", "amqp", "stomp", GATEWAY)
"""A transport that is added here has to pass the whole suite, unchanged."""

PRINCIPALS: Mapping[str, tuple[str, ...]] = {
    "ada": ("run", "read"),
    "bob": ("run", "read"),
    "reader": ("read",),
    "runner": ("run:hello",),
    "auditor": ("read:all",),
    "stopper": ("cancel:all",),
    "root": ("admin",),
}

SETTINGS: Mapping[str, Any] = {
    "workers": 4,
    "cancel_grace": "300ms",
    "log_level": "debug",
    "limits": {"output": 300_000, "output_stop": 3_000_000, "result": 1_000_000, "artifact_count": 20},
}

ENVIRONMENT: Mapping[str, str] = {"SEEN_BY_JOBS": "yes", "HIDDEN_FROM_JOBS": "yes"}


class Host(ABC):
    """A node, and how services that lead to it are made."""

    data: Path

    @abstractmethod
    def service(self, wire: str) -> Service:
        """Connect over a wire."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask the node to stop, without waiting for it."""

    @abstractmethod
    def log(self) -> str:
        """Give what the node wrote."""


class ProcessHost(Host):
    """A node of its own process, behind its transports."""

    def __init__(self, node: RunningNode, stack: ExitStack) -> None:
        self.node = node
        self.data = node.data
        self._stack = stack
        self._gateway = ""

    def service(self, wire: str) -> Service:
        url = self.gateway() if wire == GATEWAY else self.node.urls[wire]
        return for_url(url).connect(Target(url))

    def gateway(self) -> str:
        """Give the URL of a gateway to this node, started when it is first asked for."""
        if not self._gateway:
            self._gateway = self._stack.enter_context(running_gateway(self.node.urls["unix"], self.data))
        return self._gateway

    def terminate(self) -> None:
        self.node.terminate()

    def log(self) -> str:
        return self.node.log()


class _InProcess(AsyncService):
    """A dispatcher, and the node in this process that it is the heart of."""

    def __init__(self, context: AbstractAsyncContextManager[Node], node: Node) -> None:
        self._context = context
        self.node = node

    async def authenticate(self, credential: Credential, origin: Origin) -> AsyncSession:
        return await self.node.dispatcher.authenticate(credential, origin)

    async def aclose(self) -> None:
        await self._context.__aexit__(None, None, None)


class _Shared(Service):
    """A service that others use too: it is closed with its host."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def authenticate(self, credential: Credential) -> Session:
        return self._service.authenticate(credential)


class DispatcherHost(Host):
    """A node in this process, without transports."""

    def __init__(self, scripts: Path, data: Path, settings: Mapping[str, Any]) -> None:
        self.data = data
        self._opened: _InProcess | None = None

        async def start() -> AsyncService:
            context = dispatcher_node(scripts, data=data, **settings)
            self._opened = _InProcess(context, await context.__aenter__())
            return self._opened

        self.blocking = BlockingService(start, Origin("dispatcher"))

    def service(self, wire: str) -> Service:
        return _Shared(self.blocking)

    def terminate(self) -> None:
        assert self._opened is not None
        node, draining = self._opened.node, threading.Event()

        async def drain() -> None:
            stopping = asyncio.ensure_future(node.dispatcher.stop(node.settings.grace))
            await asyncio.sleep(0)
            draining.set()
            await stopping

        threading.Thread(target=lambda: self.blocking.call(drain()), daemon=True).start()
        assert draining.wait(10)

    def log(self) -> str:
        return ""


class Wire:
    """One way to a node, with sessions of the principals above."""

    def __init__(self, name: str, host: Host, scripts: Path, stack: ExitStack) -> None:
        self.name = name
        self.host = host
        self.scripts = scripts
        self._stack = stack
        self._sessions: dict[str, Session] = {}
        self.tokens: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Wire {self.name}>"

    def token(self, principal: str) -> str:
        """Give a principal's token."""
        name = f"{principal}.{self.name}"  # jobs of one wire are not to be seen over another
        if principal not in self.tokens:
            self.tokens[principal] = Tokens(self.host.data).new(name, PRINCIPALS[principal])
        return self.tokens[principal]

    def session(self, principal: str) -> Session:
        """Give the session that all tests share."""
        if principal not in self._sessions:
            self._sessions[principal] = self.open(principal)
        return self._sessions[principal]

    def open(self, principal: str) -> Session:
        """Open another session, on a connection of its own."""
        return self.authenticate(Token(self.token(principal)))

    def authenticate(self, credential: Credential) -> Session:
        """Open a session with a credential."""
        service = self.host.service(self.name)
        self._stack.callback(service.close)
        session = service.authenticate(credential)
        self._stack.callback(session.close)
        return session


@contextmanager
def opened_host(kind: str, scripts: Path, data: Path, **settings: Any) -> Iterator[Host]:
    """Start a node for a wire; one that goes through a broker finds that in the settings."""
    chosen = {**SETTINGS, **settings}
    if kind == DISPATCHER:
        host = DispatcherHost(scripts, data, chosen)
        try:
            yield host
        finally:
            host.blocking.close()
    else:
        with running_node(scripts, data=data, env=ENVIRONMENT, **chosen) as node, ExitStack() as stack:
            yield ProcessHost(node, stack)


@contextmanager
def opened_wire(kind: str, host: Host, scripts: Path) -> Iterator[Wire]:
    """Give a way to a node; its sessions are closed at the end."""
    with ExitStack() as stack:
        yield Wire(kind, host, scripts, stack)


def call(script: str, params: Mapping[str, Any] | None = None, **fields: Any) -> JobRequest:
    """Make a job request."""
    return JobRequest(script=script, params=None if params is None else dict(params), **fields)


def all_events(session: Session, job_id: str, after: int = 0) -> list[Event]:
    """Read a job's events to their end."""
    return list(session.events(job_id, after))


def until_output(events: Iterator[Event], text: str) -> list[Event]:
    """Read events up to the one that has this output."""
    seen: list[Event] = []
    for event in events:
        seen.append(event)
        if isinstance(event, OutputEvent) and text.encode() in event.raw():
            return seen
    raise AssertionError(f"the events ended without {text!r}: {seen}")


def wait_for_output(session: Session, job_id: str, text: str) -> None:
    """Wait until a job has written something."""
    events = session.events(job_id)
    until_output(iter(events), text)
    close_events(events)


def wait_for_state(session: Session, job_id: str, state: str) -> None:
    """Wait until a job has come to a state."""
    events = session.events(job_id)
    assert any(isinstance(event, StateEvent) and event.state == state for event in events)
    close_events(events)


def close_events(events: Iterator[Event]) -> None:
    """Stop following."""
    events.close()  # type: ignore[attr-defined]


def stream(events: list[Event], name: str = "stdout") -> bytes:
    """Give all that was written to a stream."""
    return b"".join(event.raw() for event in events if isinstance(event, OutputEvent) and event.stream == name)


def states(events: list[Event]) -> list[str]:
    """Give the states that a job went through."""
    return [event.state.value for event in events if isinstance(event, StateEvent)]


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Look again and again until a condition holds; whether it did within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
