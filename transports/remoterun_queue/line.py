"""The client's end of a queue: a line that carries messages to a node and answers back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable


class Line(ABC):
    """A connection on which whole messages go out and answers come in; it is made anew where it broke.

    Whoever uses it is told of answers by `received`, and by `lost` that answers to what was sent before may never come;
    both are called from the line's own thread and return at once.
    """

    address: str  # for messages: the URL without its secrets
    received: Callable[[bytes], None]
    lost: Callable[[str], None]

    @abstractmethod
    def send(self, body: bytes, request_id: str, key: str | None) -> None:
        """Hand a message over; any thread may.

        Parameters:
            request_id: by which its answers are known.
            key: under which a queue that delivers it twice starts one job.

        Raises:
            Unavailable: there is no connection, and none could be made in time.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection; calling it twice is allowed."""
