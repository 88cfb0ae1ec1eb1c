"""One message that came, and the way back to who sent it: what each queue transport implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable

from remoterun.errors import ServiceError


class Gone(Exception):
    """The way is cut: nobody reads the answers, or the connection is lost that the message came by."""


class Exchange(ABC):
    """A message, which is settled once, and answered as often as need be.

    Parameters:
        reader: who reads the answers, as this transport tells readers apart; None: they can go nowhere.
        peer: the sender's address for the records, or nothing where the wire does not know it.
        is_kept: whether the message stays with a broker, which delivers it again unless it is settled.
        principal: whom the wire itself proves the sender to be; empty: nobody.
    """

    def __init__(self, reader: Hashable | None, *, peer: str = "", is_kept: bool = True, principal: str = "") -> None:
        self.reader = reader
        self.peer = peer
        self.is_kept = is_kept
        self.principal = principal
        self._is_settled = False

    @property
    def is_gone(self) -> bool:
        """Whether it can be settled no longer: the broker delivers it again, and only then it is to be served."""
        return False

    async def accept(self) -> None:
        """Have it not delivered again: its job is durable, or it asked for nothing lasting.

        Raises:
            Gone: the broker will deliver it again.
        """
        if not self._is_settled:
            self._is_settled = True
            await self._accept()

    async def refuse(self, error: ServiceError) -> None:
        """Put it aside for good, with the reason; what was accepted stays so.

        Raises:
            Gone: the broker will deliver it again.
        """
        if not self._is_settled:
            self._is_settled = True
            await self._refuse(error)

    def proved(self) -> None:  # noqa: B027 - a broker knows its own callers
        """Take note that its sender has proved who it is."""

    def disproved(self) -> None:  # noqa: B027 - a broker knows its own callers
        """Take note that its sender's credential is wrong, or no longer valid."""

    @abstractmethod
    async def _accept(self) -> None:
        """Acknowledge it."""

    @abstractmethod
    async def _refuse(self, error: ServiceError) -> None:
        """Move it to where refused messages are kept, or drop it where there is no such place."""

    @abstractmethod
    async def answer(self, body: bytes) -> None:
        """Send an answer to the reader; it returns once the wire has room for another one.

        Raises:
            Gone: nobody reads it.
        """
