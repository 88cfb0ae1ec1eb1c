"""The clock: tokens expire by it, ids and records are ordered by it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from datetime import UTC, datetime

from remoterun.cli.doctor.finding import Finding

_ERROR = 5  # TIME_ERROR, what adjtimex(2) gives for a clock that nothing keeps right
_STEP = 0.05  # seconds; a clock that is slewed gains 0.5 ms a second


class _Timex(ctypes.Structure):
    """`struct timex`, as far as its size matters: see adjtimex(2)."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 256))


class Clock:
    """Whether the clock is right, and goes evenly between the first look and the last."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._began = wall() - steady()

    def look(self) -> Finding:
        """Say what is known of it."""
        now = datetime.fromtimestamp(self._wall(), UTC)
        if now.year < 2024:
            return Finding("clock", "fail", f"it says {now:%Y-%m-%d}: tokens and ids need the right time; set it")
        text = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        step = self._wall() - self._steady() - self._began
        if abs(step) > _STEP:
            return Finding("clock", "warn", f"{text}, and it jumped by {step:+.2f} s just now; have NTP slew it")
        synchronised = is_synchronised()
        if synchronised is None:
            return Finding("clock", "ok", f"{text}; the kernel does not say whether it is synchronised")
        if not synchronised:
            return Finding("clock", "warn", f"{text}, and nothing keeps it right; run chrony or systemd-timesyncd")
        return Finding("clock", "ok", f"{text}, synchronised")


def is_synchronised() -> bool | None:
    """Ask the kernel whether something keeps its clock right; None: it does not say."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(_Timex()))
    except AttributeError:
        return None
    return None if state < 0 else state != _ERROR
