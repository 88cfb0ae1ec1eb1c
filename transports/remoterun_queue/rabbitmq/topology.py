"""The queues and the exchange at the broker: how each is declared; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DELIVERIES: Final = "x-delivery-count"  # a quorum queue's header: how often the message was delivered before

_LONGEST_KEY: Final = 255  # bytes of a routing key of AMQP's


@dataclass(frozen=True, slots=True)
class Topology:
    """The names that a node consumes from and publishes to.

    `attempts` is how often a message may be delivered again before it is dead.
    """

    jobs: str
    dead: str
    exchange: str
    attempts: int

    @property
    def calls(self) -> str:
        """The queue of requests that someone waits for: they are not to stand behind ten thousand jobs."""
        return calls_of(self.jobs)

    def job_arguments(self) -> Mapping[str, Any]:
        """Give the arguments of the queue of jobs.

        Dead-lettering is at least once only with `reject-publish`. A publisher is refused when the queue is full,
        never is an old message dropped for it.
        """
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": self.attempts,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    def dead_arguments(self) -> Mapping[str, Any]:
        """Give the arguments of the queue of dead messages."""
        return {"x-queue-type": "quorum"}

    def calls_arguments(self) -> Mapping[str, Any]:
        """Give the arguments of the queue of calls.

        One node at a time reads it: what a call began, further calls are about. It goes with its node, so that a
        caller learns at once that nobody is there.
        """
        return {"x-single-active-consumer": True}


def calls_of(queue: str) -> str:
    """Give the name of the queue of calls beside a queue of jobs."""
    return f"{queue}.calls"


def deliveries(headers: Mapping[str, Any] | None) -> int:
    """Tell how often a message was delivered before."""
    count = (headers or {}).get(DELIVERIES, 0)
    return count if isinstance(count, int) else 0


def event_key(script: str, kind: str) -> str:
    """Give an event's routing key: `reports.daily.progress`, so that `reports.#` and `#.state` select."""
    name = script.replace(".", "_").replace("/", ".").encode()
    return f"{name[: _LONGEST_KEY - len(kind) - 1].decode(errors='ignore')}.{kind}"
