"""The client half: a line over a broker, with a queue of its own for the answers."""

from __future__ import annotations

import random
import threading
import time
from typing import Final

from remoterun.errors import Unavailable
from remoterun.messages import encode
from remoterun.service import Service
from remoterun.transport import Target
from remoterun_queue import envelope
from remoterun_queue.activemq.address import Address, parse_url
from remoterun_queue.activemq.link import Complaint, Ended, Heard, Link, Message
from remoterun_queue.conversation import QueueService
from remoterun_queue.line import Line

HEARTBEAT: Final = 5.0  # seconds
_PAUSE_FIRST, _PAUSE_MOST = 0.1, 1.0  # seconds between attempts to connect again
_ANSWERS: Final = "/temp-queue/remoterun"  # the broker makes of it a name of this connection's own
_CORRELATION: Final = "correlation-id"


def connect(target: Target) -> Service:
    """Connect to the broker that a URL names.

    Raises:
        Invalid: the URL is none of a broker.
        Unavailable: there is no broker, or it does not want us.
    """
    line = StompLine(parse_url(target.url, ca=target.ca_file), target.timeout)
    line.connect()  # tells at once whether anything is there
    return QueueService(line, target.timeout)


class StompLine(Line):
    """A connection to a broker, made anew for the next message where it broke.

    Parameters:
        timeout: seconds for connecting.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = str(address)
        self.received = lambda body: None
        self.lost = lambda reason: None
        self._to = address
        self._timeout = timeout
        self._link: Link | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def connect(self, patience: float = 0.0) -> Link:
        """Give the connection; make it where there is none, for so many seconds again and again.

        Raises:
            Unavailable: there is no broker, or it does not want us.
        """
        deadline, pause = time.monotonic() + patience, _PAUSE_FIRST
        with self._lock:
            while self._link is None:
                if self._is_closed:
                    raise Unavailable(f"the connection to {self.address} was closed")
                try:
                    self._link = self._opened()
                except Unavailable:
                    if time.monotonic() + pause > deadline:
                        raise
                    time.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(2 * pause, _PAUSE_MOST)
            return self._link

    def _opened(self) -> Link:
        link = Link(self._to, self._hear, timeout=self._timeout, heartbeat=HEARTBEAT)
        link.open()
        link.subscribe(_ANSWERS, {}, ack="auto")
        return link

    def send(self, body: bytes, request_id: str, key: str | None) -> None:
        headers = {
            "reply-to": _ANSWERS,
            _CORRELATION: request_id,
            "receipt": request_id,  # a broker keeps a refusal to itself that nobody asked for
            "content-type": "application/json",
            "amq-msg-type": "text",
        }
        if key is not None and key.isprintable():
            headers["remoterun-key"] = key
        self.connect(self._timeout).send(self._to.queue, body, headers)

    def close(self) -> None:
        self._is_closed = True
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _hear(self, link: Link, heard: Heard) -> None:
        if isinstance(heard, Message):
            self.received(_with_id(heard))
        elif isinstance(heard, Complaint) and heard.id is not None:
            error = Unavailable(f"{self.address} does not take the message: {heard.reason}")
            self.received(envelope.refusal(heard.id, error))
        elif isinstance(heard, Ended):
            with self._lock:
                if self._link is link:
                    self._link = None
            self.lost(heard.reason)


def _with_id(message: Message) -> bytes:
    """Give an answer's text. That to a request which was too large to be read says only in its header whose it is."""
    correlation = message.headers.get(_CORRELATION)
    if correlation is None or message.body.startswith(b'{"id":'):
        return message.body
    return b'{"id":%b,%b' % (encode(correlation), message.body[1:])
