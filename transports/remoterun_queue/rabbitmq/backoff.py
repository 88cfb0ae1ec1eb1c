"""How long to wait before the next attempt; pure."""

from __future__ import annotations

import random
from typing import Final

FIRST: Final = 0.25  # seconds
LONGEST: Final = 5.0


class Backoff:
    """Doubles with each attempt, up to a bound, less a random part: nodes that lost one broker do not return at once.

    Parameters:
        longest: seconds.
        jitter: gives a number from 0 to 1.
    """

    def __init__(self, longest: float = LONGEST, jitter: random.Random | None = None) -> None:
        self._longest = longest
        self._random = jitter or random.Random()
        self._attempts = 0

    def next(self) -> float:
        """Give the seconds to wait now."""
        bound = min(self._longest, FIRST * float(2 ** min(self._attempts, 30)))
        self._attempts += 1
        return bound * (0.5 + self._random.random() / 2)

    def reset(self) -> None:
        """Begin anew: an attempt succeeded."""
        self._attempts = 0
