"""Job ids: UUIDv7 (RFC 9562), so that the order of ids is the order of creation."""

from __future__ import annotations

import os
import time

_RANDOM_BITS = 74  # ids of one millisecond step by a random amount: ordered, and not to be guessed
_STEPS_AT_ONCE = 1024  # random numbers taken from the system: each time costs a system call

_last_time = 0  # milliseconds since 1970
_last_random = 0
_prefix = ""  # what the ids of this millisecond begin with
_steps = iter(memoryview(b"").cast("I"))


def new_id() -> str:
    """Make an id that sorts after every one made before in this process, also if the clock steps back."""
    global _last_random
    now = time.time_ns() // 1_000_000
    if now > _last_time:
        _begin(now, int.from_bytes(os.urandom(10), "big") >> 7)  # 73 bits: room for the steps
    else:
        _last_random += 1 + _step()
        if _last_random >> _RANDOM_BITS:
            _begin(_last_time + 1, _last_random & ((1 << (_RANDOM_BITS - 1)) - 1))
    number = _last_random
    return f"{_prefix}{number >> 62:03x}-{number >> 48 & 0x3FFF | 0x8000:04x}-{number & 0xFFFFFFFFFFFF:012x}"


def _begin(milliseconds: int, random: int) -> None:
    global _last_time, _last_random, _prefix
    _last_time = milliseconds
    _last_random = random
    _prefix = f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7"


def _step() -> int:
    global _steps
    number = next(_steps, None)
    if number is None:
        _steps = iter(memoryview(os.urandom(4 * _STEPS_AT_ONCE)).cast("I"))
        number = next(_steps)
    return number
