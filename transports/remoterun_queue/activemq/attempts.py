"""How many nodes died over a message: STOMP says only that one was delivered before, not how often.

A message that takes the node down with it would be delivered for ever. A lost connection is not held against it: within
one life of the node a message counts once.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec

logger = logging.getLogger(__name__)

_MOST: Final = 10_000  # messages remembered; what another consumer has settled is not heard of here


class Attempts:
    """The counts, in a file that survives the node; only messages that were delivered before are in it.

    Parameters:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._in_this_life: set[str] = set()
        try:
            self._counts = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            self._counts = {}

    def begin(self, message_id: str) -> int:
        """Count a delivery before anything else is done about it; give in how many lives there was one."""
        if message_id not in self._in_this_life:
            self._in_this_life.add(message_id)
            self._counts[message_id] = self._counts.get(message_id, 0) + 1
            self._write()
        return self._counts.get(message_id, 1)

    def settle(self, message_id: str) -> None:
        """Forget a message that will not be delivered again."""
        if message_id in self._in_this_life:
            self._in_this_life.discard(message_id)
            self._counts.pop(message_id, None)
            self._write()

    def forgive(self) -> None:
        """Count this life no more: it ends as it should, whatever is left unsettled."""
        for message_id in self._in_this_life:
            if self._counts.get(message_id, 0) > 1:
                self._counts[message_id] -= 1
            else:
                self._counts.pop(message_id, None)
        if self._in_this_life:
            self._in_this_life.clear()
            self._write()

    def _write(self) -> None:
        """Write the file; without fsync, since it is to outlive the node and not the machine."""
        while len(self._counts) > _MOST:
            del self._counts[next(iter(self._counts))]
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(self._counts))
            temporary.replace(self._path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._path, error.strerror)
