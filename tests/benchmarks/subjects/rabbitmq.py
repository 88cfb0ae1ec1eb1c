"""Calls over RabbitMQ, beside a bare consumer and two task queues on the same broker.

Ours, the bare consumer and the safe Celery have the same guarantees: a quorum queue, persistent messages, confirmed
calls and answers, a call acknowledged when nothing of it can be lost any more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from amqp_load import amqp_milliseconds, amqp_rate, await_consumer
from measure import Figure, MeasureError, Row, Target, Unit, absent
from place import FLOORS, Place, output_of, tool

_CALLS = 2000
_ONE_BY_ONE = 200
_OURS, _BARE = "remoterun.jobs", "bare.jobs"
_CONFIGURATION = """\
[rabbitmq]
url = "{url}"
principal = "publisher"

[principals.publisher]
scopes = ["run:hello", "read"]
"""


@dataclass(frozen=True)
class _Peer:
    """A task queue that has a worker running.

    Parameters:
        command: measures it, with what and how many after it.
        missing: why it cannot.
    """

    name: str
    command: Sequence[str] = ()
    missing: str = ""

    def rate(self) -> Figure:
        return self._figure("/s", "rate", _CALLS)

    def milliseconds(self) -> Figure:
        return self._figure("ms", "ms", _ONE_BY_ONE)

    def _figure(self, unit: Unit, what: str, count: int) -> Figure:
        if self.missing:
            return absent(self.name, unit, self.missing)
        return Figure(self.name, unit, lambda: float(output_of([*self.command, what, str(count)], timeout=120)))


def rows(place: Place) -> list[Row]:
    """Give the rows of this subject."""
    tool("rabbitmq-server")
    url = place.broker("rabbitmq")
    place.node(configuration=_CONFIGURATION.format(url=url))
    place.floor("pika_hello.py", url, _BARE)
    peers = _peers(place, url)
    for queue in (_OURS, _BARE):
        await_consumer(url, queue)
    return [_throughput(url, peers), _round_trip(url, peers)]


def _throughput(url: str, peers: Sequence[_Peer]) -> Row:
    bare = Figure("bare pika consumer", "/s", lambda: amqp_rate(url, _BARE, _CALLS))
    safe, plain, confirmed, unconfirmed = (peer.rate() for peer in peers)
    return Row(
        f"RabbitMQ, warm: {_CALLS:,} calls, all confirmed and answered",
        Figure("hello", "/s", lambda: amqp_rate(url, _OURS, _CALLS)),
        [bare, safe, plain, confirmed, unconfirmed],
        [Target("≥", 5, safe), Target("≥", 1, unconfirmed), Target("≥", 0.4, bare)],
    )


def _round_trip(url: str, peers: Sequence[_Peer]) -> Row:
    bare = Figure("bare pika consumer", "ms", lambda: amqp_milliseconds(url, _BARE, _ONE_BY_ONE))
    return Row(
        "RabbitMQ, warm: one at a time",
        Figure("hello", "ms", lambda: amqp_milliseconds(url, _OURS, _ONE_BY_ONE)),
        [bare, *(peer.milliseconds() for peer in peers)],
        [Target("≤", 2, bare)],
    )


def _peers(place: Place, url: str) -> tuple[_Peer, _Peer, _Peer, _Peer]:
    """Start the task queues; nothing is measured while one of them still starts."""
    celery = (str(FLOORS / "celery_hello.py"), url)
    safe = _started(place, url, "Celery, same guarantees", "celery.safe", [*celery, "safe"])
    plain = _started(place, url, "Celery without them", "celery.plain", [*celery, "plain"])
    names = ("Dramatiq with confirms", "Dramatiq without")
    try:
        dramatiq = (str(FLOORS / "dramatiq_hello.py"), url, str(place.redis()))
    except MeasureError as error:
        return safe, plain, _Peer(names[0], missing=str(error)), _Peer(names[1], missing=str(error))
    confirmed = _started(place, url, names[0], "dramatiq.confirms", [*dramatiq, "confirms"])
    return safe, plain, confirmed, _started(place, url, names[1], "dramatiq.plain", [*dramatiq, "plain"])


def _started(place: Place, url: str, name: str, queue: str, program: Sequence[str]) -> _Peer:
    library = queue.partition(".")[0]
    if find_spec(library) is None:
        return _Peer(name, missing=f"{library} is not installed")
    command = [sys.executable, *program]
    place.start([*command, "worker"])
    try:
        await_consumer(url, queue)
    except MeasureError as error:
        return _Peer(name, missing=str(error))
    return _Peer(name, command)
