"""Client halves that have a connection for each call under way: taken from a pool, proved, repeated where it broke.

It imports no event loop: starting a script by `remoterun run` should cost little more than the call.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from remoterun.calling import CallingSession
from remoterun.errors import Unavailable
from remoterun.messages import ArtifactInfo, Event
from remoterun.operations import Call
from remoterun.service import Artifact, Credential, Service, Session


class Lost(Exception):
    """The connection broke; `sent` tells whether the node may have the whole request."""

    def __init__(self, reason: BaseException | str, sent: bool) -> None:
        super().__init__(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)
        self.sent = sent


def no_connection(address: object, error: BaseException | str) -> Unavailable:
    """Say that nothing answers at an address, or not as it should."""
    return Unavailable(f"{address}: {Lost(error, False)}")


def answer_lost(address: object, lost: Lost) -> Unavailable:
    """Say that a request may have been carried out, and nobody here knows."""
    return Unavailable(
        f"{address}: {lost}; the request may have been carried out: look at the list of jobs, "
        "or give a key, under which it can be sent again"
    )


class Channel(Protocol):
    """One connection, on which one caller at a time asks."""

    def is_quiet(self) -> bool:
        """Tell whether it is open, and nothing unasked has come."""

    def close(self) -> None:
        """Close it."""


T = TypeVar("T")
C = TypeVar("C", bound=Channel)


class PooledSession(CallingSession, Generic[C]):
    """The operations at a node, over as many connections as calls go on at once.

    A thread that calls takes an idle connection, or opens one; so a `cancel` goes through while another thread
    is in `run`. Every connection proves the same credential.

    Parameters:
        address: the node's, for messages.
        timeout: seconds for each answer that does not wait for a job.
    """

    def __init__(self, address: object, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._idle: list[C] = []
        self._principal = ""

    @abstractmethod
    def _connect(self) -> C:
        """Open a connection.

        Raises:
            Unavailable: nothing answers.
        """

    @abstractmethod
    def _prove(self, channel: C) -> str:
        """Prove the credential on a connection, and give the principal's name; may raise `Lost`."""

    @abstractmethod
    def _ask_once(self, call: Call[T], timeout: float | None) -> T:
        """Ask on one connection; may raise `Lost`."""

    @abstractmethod
    def _events_once(self, job_id: str, after: int) -> Iterator[Event]:
        """Iterate over a job's events on one connection; may raise `Lost`."""

    @abstractmethod
    def _artifact_once(self, job_id: str, name: str) -> tuple[ArtifactInfo, Iterator[bytes]]:
        """Open an artifact on one connection; may raise `Lost`, also while its pieces are read."""

    @property
    def principal(self) -> str:
        return self._principal

    def open(self, channel: C | None) -> None:
        """Prove the credential, on a connection that is there or a new one."""
        if channel is not None and not channel.is_quiet():
            channel.close()
            channel = None
        self._idle.append(self._greet(channel if channel is not None else self._connect()))

    def ask(self, call: Call[T]) -> T:
        timeout = None if call.waits else self._timeout
        try:
            return self._ask_once(call, timeout)
        except Lost as lost:
            if lost.sent and not call.repeatable:
                raise answer_lost(self._address, lost) from lost
        try:
            return self._ask_once(call, timeout)
        except Lost as lost:
            raise no_connection(self._address, lost) from lost

    def events(self, job_id: str, after: int = 0) -> Iterator[Event]:
        while True:
            last = after
            try:
                for event in self._events_once(job_id, after):
                    after = event.n
                    yield event
                return
            except Lost as lost:
                if after == last:  # not one event since the last attempt
                    raise no_connection(self._address, lost) from lost

    def open_artifact(self, job_id: str, name: str) -> Artifact:
        try:
            info, pieces = self._artifact_once(job_id, name)
        except Lost as lost:
            raise no_connection(self._address, lost) from lost
        return Artifact(info, self._chunks(pieces))

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _chunks(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from pieces
        except Lost as lost:
            raise no_connection(self._address, lost) from lost

    def _take(self) -> C:
        while self._idle:
            try:
                channel = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if channel.is_quiet():
                return channel
            channel.close()
        return self._greet(self._connect())

    def _greet(self, channel: C) -> C:
        try:
            self._principal = self._prove(channel)
        except Lost as lost:
            channel.close()
            raise no_connection(self._address, lost) from lost
        except BaseException:
            channel.close()
            raise
        return channel


class PooledService(Service, Generic[C]):
    """The door of a node; its first connection tells at once whether anything is there.

    Parameters:
        first: that connection, on which nothing is proved yet.
    """

    def __init__(self, first: C) -> None:
        self._first: C | None = first

    @abstractmethod
    def _session(self, credential: Credential) -> PooledSession[C]:
        """Make a session, which is not open yet."""

    def authenticate(self, credential: Credential) -> Session:
        session = self._session(credential)
        first, self._first = self._first, None
        session.open(first)
        return session

    def close(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            first.close()
