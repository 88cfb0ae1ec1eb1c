"""Calls over ActiveMQ: sent persistent with a receipt, each one's answer awaited; on stomp.py alone."""

from __future__ import annotations

import json
import logging
import statistics
import threading
import time
import uuid
from urllib.parse import urlsplit

import stomp

from measure import MeasureError

_REQUEST = json.dumps({"script": "hello", "params": {"name": "Ada"}})
_ANSWER = {"hello": "Ada"}
_WARM = 50  # calls before those that are measured
_PATIENCE = 60.0  # seconds

logging.getLogger("stomp.py").setLevel(logging.CRITICAL)  # a failure is said by the figure


def stomp_rate(url: str, queue: str, count: int) -> float:
    """Send `count` calls at once and give the answers a second.

    Raises:
        MeasureError: some answer is wrong, or stays away.
    """
    return count / sum(_measured(url, queue, [count]))


def stomp_milliseconds(url: str, queue: str, count: int = 200) -> float:
    """Give the time from sending a call to its receipt and answer, one at a time; the median of `count`.

    Raises:
        MeasureError: some answer is wrong, or stays away.
    """
    return statistics.median(_measured(url, queue, [1] * count)) * 1000


def _measured(url: str, queue: str, batches: list[int]) -> list[float]:
    """Give the seconds that each batch of calls took, whose calls are sent at once."""
    caller = _Caller(url, queue)
    try:
        caller.seconds_for(_WARM)
        return [caller.seconds_for(count) for count in batches]
    except (stomp.exception.StompException, OSError) as error:
        raise MeasureError(f"{queue}: {error}") from error
    finally:
        caller.close()


class _Caller(stomp.ConnectionListener):  # type: ignore[misc]
    """A connection with a queue for its answers."""

    def __init__(self, url: str, queue: str) -> None:
        self._queue = queue
        self._open: set[str] = set()  # receipts and answers that are awaited
        self._done = threading.Event()
        self._failure = ""
        broker = urlsplit(url)
        self._connection = stomp.Connection12([(broker.hostname, broker.port)])
        self._connection.set_listener("", self)
        self._connection.connect(wait=True)
        self._connection.subscribe("/temp-queue/answers", id="answers", ack="auto")

    def seconds_for(self, count: int) -> float:
        """Send so many calls, and wait until all have their receipt and their answer."""
        calls = [uuid.uuid4().hex for _ in range(count)]
        self._done.clear()
        self._open = {f"{kind}{call}" for call in calls for kind in ("receipt-", "answer-")}
        began = time.perf_counter()
        for call in calls:
            headers = {"persistent": "true", "receipt": f"receipt-{call}", "remoterun-key": call}
            headers |= {"reply-to": "/temp-queue/answers", "correlation-id": f"answer-{call}"}
            self._connection.send(self._queue, _REQUEST, headers=headers)
        came = self._done.wait(_PATIENCE)
        taken = time.perf_counter() - began
        if self._failure or not came:
            raise MeasureError(f"{self._queue}: {self._failure or 'not all answers came'}")
        return taken

    def on_receipt(self, frame: stomp.utils.Frame) -> None:
        self._settle(frame.headers["receipt-id"])

    def on_message(self, frame: stomp.utils.Frame) -> None:
        if json.loads(frame.body).get("result") == _ANSWER:
            self._settle(frame.headers["correlation-id"])
        else:
            self._fail(f"the answer was {frame.body[:200]!r}")

    def on_error(self, frame: stomp.utils.Frame) -> None:
        self._fail(frame.headers.get("message", "the broker refuses"))

    def on_disconnected(self) -> None:
        self._fail("the connection closed")

    def close(self) -> None:
        """Leave."""
        self._connection.remove_listener("")
        self._connection.disconnect()

    def _settle(self, what: str) -> None:
        self._open.discard(what)
        if not self._open:
            self._done.set()

    def _fail(self, failure: str) -> None:
        self._failure = failure
        self._done.set()
