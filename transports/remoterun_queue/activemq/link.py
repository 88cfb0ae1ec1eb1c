"""One STOMP connection from its opening to its end, in three threads that nobody else sees.

stomp.py reads in a thread of its own and keeps the heartbeats in another; sending may block, and has the third. What
comes is told to one function, `hear`, in these threads; whatever goes wrong in there must not reach stomp.py, which
would close the connection and drop the frames behind.
"""

from __future__ import annotations

import logging
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from remoterun.errors import Unavailable
from remoterun_queue.activemq.address import Address
from remoterun_queue.activemq.connection import Connection

logger = logging.getLogger(__name__)

_GOODBYE = 1.0  # seconds that the broker has for what was sent before we leave


class Message(Struct, frozen=True):
    """A message that the broker delivered."""

    headers: Mapping[str, str]
    body: bytes


class Receipt(Struct, frozen=True):
    """The broker has done what was sent with this receipt."""

    id: str


class Complaint(Struct, frozen=True):
    """The broker refuses: what was sent with this receipt, or something."""

    id: str | None
    reason: str


class Ended(Struct, frozen=True):
    """The connection is gone; nothing more is heard of it."""

    reason: str


Heard: TypeAlias = Message | Receipt | Complaint | Ended


class Link:
    """A connection to a broker. Every method but `open` and `close` returns at once.

    Parameters:
        hear: is told what comes, in threads of the connection's; `Ended` is the last, and comes once.
        timeout: seconds for opening.
        heartbeat: seconds between two signs of life.
    """

    def __init__(
        self, address: Address, hear: Callable[[Link, Heard], None], *, timeout: float, heartbeat: float
    ) -> None:
        self._address = address
        self._hear = hear
        self._timeout = timeout
        self._connection = Connection(address, timeout=timeout, heartbeat=heartbeat)
        self._connection.set_listener("link", _Listener(self))
        self._frames: queue.SimpleQueue[Callable[[Connection], Any] | None] = queue.SimpleQueue()
        self._answered = threading.Event()  # the greeting was answered, or never will be
        self._farewell = threading.Event()
        self._farewell_id = ""
        self._complaint = ""
        self._lock = threading.Lock()
        self._is_greeted = False
        self._is_open = False
        self._has_ended = False

    def open(self) -> None:
        """Connect, and start to listen and send.

        Raises:
            Unavailable: there is no broker, or it does not want us; the text says why.
        """
        try:
            self._connection.open()
        except Exception as error:  # stomp.py's as well as the socket's
            raise Unavailable(f"{self._address} cannot be reached: {_reason(error)}") from error
        if not self._answered.wait(self._timeout):
            self.cut()
            raise Unavailable(f"{self._address} took the connection and did not speak STOMP within {self._timeout:g} s")
        with self._lock:
            self._is_open = self._is_greeted and not self._has_ended
        if not self._is_open:
            self.cut()
            raise Unavailable(f"{self._address} refuses the connection: {self._complaint or 'it closed it'}")
        threading.Thread(target=self._send_all, name="remoterun-stomp-send", daemon=True).start()

    def subscribe(self, queue_name: str, headers: Mapping[str, str], *, ack: str) -> None:
        """Have a queue's messages delivered."""
        self._frames.put(lambda connection: connection.subscribe(queue_name, "jobs", ack, dict(headers)))

    def send(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a persistent message."""
        given = {"persistent": "true", **headers}
        self._frames.put(lambda connection: connection.send(destination, body, headers=given))

    def ack(self, delivery: str) -> None:
        """Have a message not delivered again."""
        self._frames.put(lambda connection: connection.ack(delivery))

    def close(self) -> None:
        """Leave once the broker has taken everything that was sent."""
        receipt = self._farewell_id = uuid.uuid4().hex
        self._frames.put(lambda connection: connection.send_frame("DISCONNECT", {"receipt": receipt}))
        if self._is_open and not self._has_ended:
            self._farewell.wait(_GOODBYE)
        self.cut()

    def cut(self) -> None:
        """Break the connection off."""
        self._frames.put(None)
        self._connection.cut()

    def _send_all(self) -> None:
        try:
            while (frame := self._frames.get()) is not None:
                frame(self._connection)
        except Exception as error:
            self.end(_reason(error))

    def connected(self) -> None:
        """Note that the broker has answered the greeting."""
        self._is_greeted = True
        self._answered.set()

    def heard(self, heard: Receipt | Complaint | Message) -> None:
        """Pass on what came."""
        if isinstance(heard, Complaint) and heard.id is None:
            self._complaint = heard.reason
        if not self._is_greeted:  # a complaint about the greeting itself
            self._answered.set()
        elif isinstance(heard, Receipt) and heard.id == self._farewell_id:
            self._farewell.set()
        else:
            self._tell(heard)

    def end(self, reason: str) -> None:
        """Note that the connection is gone."""
        with self._lock:
            if self._has_ended:
                return
            self._has_ended = True
            was_open = self._is_open
        self._answered.set()
        self._farewell.set()
        self.cut()
        if was_open:
            self._tell(Ended(f"{reason}: {self._complaint}" if self._complaint else reason))

    def _tell(self, heard: Heard) -> None:
        try:
            self._hear(self, heard)
        except Exception:
            logger.exception("what came from %s was lost", self._address)


class _Listener:
    """What stomp.py calls, by these names."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def on_connected(self, frame: Any) -> None:
        self._link.connected()

    def on_message(self, frame: Any) -> None:
        self._link.heard(Message(frame.headers, frame.body))

    def on_receipt(self, frame: Any) -> None:
        self._link.heard(Receipt(frame.headers.get("receipt-id", "")))

    def on_error(self, frame: Any) -> None:
        reason = frame.headers.get("message") or frame.body.decode(errors="replace").partition("\n")[0]
        self._link.heard(Complaint(frame.headers.get("receipt-id"), reason))

    def on_heartbeat_timeout(self) -> None:
        self._link.end("the broker fell silent")

    def on_disconnected(self) -> None:
        self._link.end("the connection is lost")


def _reason(error: Exception) -> str:
    if isinstance(error, BlockingIOError):  # the limit of a send has passed
        return "the broker takes nothing any more"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
